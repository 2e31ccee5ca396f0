# SPDX-License-Identifier: GPL-2.0-or-later
"""From a journal record to a C file."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from hil.cells import Direction
from hil.errors import HilError
from hil.judge import facts
from hil.report.essence import expected
from hil.report.grid import whole
from hil.report.reproducer.classes import Recipe, recipe, shared
from hil.report.reproducer.parts import linked, parts
from hil.report.text import clean, command_line
from hil.rules.table import Rule, rule_for, table
from hil.system import release as releases
from hil.verdicts import Verdict

Record = Mapping[str, Any]
DEADLINE = 10


class NoReproducerError(Exception):
    """There is none for this cell; ``reason`` says what is missing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# Node's name -> the single-planar buffer types of its queues, capture and output.
_TYPES = {
    "video": ("VIDEO_CAPTURE", "VIDEO_OUTPUT"),
    "v4l-touch": ("VIDEO_CAPTURE", ""),
    "vbi": ("VBI_CAPTURE", "VBI_OUTPUT"),
    "swradio": ("SDR_CAPTURE", "SDR_OUTPUT"),
}
_SUFFIXES = {
    "mplane": ("VIDEO_CAPTURE_MPLANE", "VIDEO_OUTPUT_MPLANE"),
    "sliced": ("SLICED_VBI_CAPTURE", "SLICED_VBI_OUTPUT"),
    "meta": ("META_CAPTURE", "META_OUTPUT"),
}
# Where a queue's format tells how long a buffer is, for drivers that tell it nowhere else.
_SIZES = {
    "VIDEO": "(format).fmt.pix.sizeimage",
    "VBI": "(format).fmt.vbi.samples_per_line * "
    "((format).fmt.vbi.count[0] + (format).fmt.vbi.count[1])",
    "SLICED": "(format).fmt.sliced.io_size",
    "SDR": "(format).fmt.sdr.buffersize",
    "META": "(format).fmt.meta.buffersize",
}
_CHANCE = frozenset({"scattered", "above_4g"})
# What this program can't see: it would be silent where the suite was not.
_UNSEEN = {
    Verdict.NO_RULE: "no rule says what must happen",
    Verdict.NOT_HELD: "what was not held is seen by the condition's own checks",
    Verdict.NOT_APPLICABLE: "this kernel or machine could not make the cell",
    Verdict.HARNESS_ERROR: "the suite or the machine was not ready: nothing is said of the driver",
}


def program(record: Record, meta: Mapping[str, Any]) -> str:
    """The C file that makes, pins and judges again what ``record`` is of; ``meta`` is run.json.

    It compiles with ``gcc -Wall -Werror`` for 64-bit machines.  NoReproducerError where it can't be
    made, or would not show what was seen.
    """
    record = whole(record)
    memory, condition = recipe(record), str(record["condition"])
    if isinstance(memory, str):
        raise NoReproducerError(memory)
    part = parts()["conditions.c"].get(condition)
    if part is None or "static void during(void)" not in part.text:
        raise NoReproducerError(f"what happens in {condition!r} is not written in C")
    _must_be_seen(record)
    pinner, macros = _pinner(record, meta)
    streams = _streams(record, macros)
    _must_not_hang_on_chance(record, meta)
    macros |= {**_expectation(record, meta), **_words(record), **memory.macros, **_blind(record)}
    if condition == "dontneed":
        macros["IS_SHARED"] = str(int(shared(str(record["memory"]))))
    body = [("common.c", "base"), ("memory.c", memory.part), ("pinners.c", pinner)]
    if streams:
        macros["STREAM"] = "1"
        body.append(("pinners.c", "stream"))
    body += [("conditions.c", condition), ("main.c", "main")]
    defines = "".join(f"#define {name} {value}".rstrip() + "\n" for name, value in macros.items())
    includes, text = _hoisted(linked(body))
    return f"{_head(record, meta, memory)}\n#define _GNU_SOURCE\n{includes}\n{defines}\n{text}"


def _hoisted(text: str) -> tuple[str, str]:
    """The headers that the parts want, each once and in order, and the text without them."""
    wanted = sorted(set(re.findall(r"^#include <.*>\n", text, re.M)))
    rest = re.sub(r"^#include <.*>\n", "", text, flags=re.M)
    return "".join(wanted), re.sub(r"\n{3,}", "\n\n", rest).lstrip("\n")


def _must_be_seen(record: Record) -> None:
    verdict = record.get("verdict")
    for unseen, why in _UNSEEN.items():
        if verdict == unseen:
            raise NoReproducerError(why)
    evidence = record.get("evidence") or {}
    if verdict in (Verdict.CORRUPT, Verdict.STALE) and not evidence.get("second_pin"):
        video = record["direction"] == Direction.CAPTURE and record["condition"] == "steady"
        if not video or verdict == Verdict.STALE:
            raise NoReproducerError(
                "the bytes that were wrong went through the device in a way that only the suite "
                "knows to compare"
            )


def _must_not_hang_on_chance(record: Record, meta: Mapping[str, Any]) -> None:
    """Where the rule looks at the frames that the memory happened to get, others decide anew."""
    told = _told(record, meta)
    if told.get("allocator") == "dma-contig" and len(told.get("directions") or ()) > 1:
        raise NoReproducerError(f"{record['pinner']} sets a picture of a size that the rule is for")
    found = table(str(told.get("family") or ""))
    for held in (found, table(found.base) if found is not None and found.base else None):
        row = next((r for r in held.rows if r.id == record.get("rule")), None) if held else None
        if row is not None and (chance := _CHANCE & row.when.keys()):
            raise NoReproducerError(
                f"what must happen hangs on which frames the memory gets ({', '.join(chance)})"
            )


def _blind(record: Record) -> dict[str, str]:
    """What makes an exit status of 0 worth nothing, where the program sees less than the suite."""
    verdict, evidence = record.get("verdict"), record.get("evidence") or {}
    if verdict == Verdict.KERNEL_WARNING:
        return {"WARNING_SEEN": "1"}
    if verdict == Verdict.CORRUPT:
        return {"BLIND": '"only pages that the device left as they were are looked for"'}
    zones = ((evidence.get("frames") or {}).get("during") or {}).get("zones") or {}
    if verdict == Verdict.STAYED and not any("Movable" in zone for zone in zones):
        return {"BLIND": '"the pages were in CMA, which this program does not know of"'}
    return {}


def _pinner(record: Record, meta: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    name = str(record["pinner"])
    told = _told(record, meta)
    if name == "io-uring":
        return "io-uring", {"NODE": '"io_uring"', "CALL_NAME": '"IORING_REGISTER_BUFFERS"'}
    if not name.startswith("v4l2-"):
        raise NoReproducerError(
            f"a program for {record.get('driver') or name} would have to set the device up as the "
            "suite's pinner does: run the cell itself"
        )
    base = name.removesuffix("-prepare")
    call = "VIDIOC_PREPARE_BUF" if base != name else "VIDIOC_QBUF"
    node = str(told.get("node") or f"/dev/{base.split('-')[2]}")
    file = PurePath(node).name
    # The suffix behind the node's own name: v4l2-vivid-video4-mplane.
    suffix = base.partition(f"-{file}")[2].removeprefix("-")
    stem = file.rstrip("0123456789")
    types = _SUFFIXES.get(suffix) or (_TYPES.get(stem) if not suffix else None)
    type_ = types[record["direction"] == Direction.OUTPUT] if types else ""
    if not type_:
        raise NoReproducerError(f"{name} sets a format of its own, which is not written in C")
    planar = int(type_.endswith("MPLANE"))
    size = "(format).fmt.pix_mp.plane_fmt[plane].sizeimage" if planar else _SIZES[
        type_.partition("_")[0]
    ]  # fmt: skip
    return "v4l2", {
        "NODE": _quoted(node),
        "DRIVER": _quoted(str(record.get("driver") or "")),
        "TYPE": f"V4L2_BUF_TYPE_{type_}",
        "MULTI_PLANAR": str(planar),
        "OUTPUT": str(int(record["direction"] == Direction.OUTPUT)),
        "SIZE_IN(format, plane)": size,
        "CALL": call,
        "CALL_NAME": _quoted(call),
    }


def _streams(record: Record, macros: Mapping[str, str]) -> bool:
    """Whether a frame is let through: where the suite saw that one arrives in this queue."""
    data = (record.get("evidence") or {}).get("data") or {}
    return (
        macros.get("TYPE") == "V4L2_BUF_TYPE_VIDEO_CAPTURE"
        and record["condition"] == "steady"
        and bool(data.get("bytes"))
        and not (record.get("evidence") or {}).get("second_pin")
    )


def _expectation(record: Record, meta: Mapping[str, Any]) -> dict[str, str]:
    rule = _rule(record, meta)
    wanted = record.get("expected") or {}
    answer = ((record.get("evidence") or {}).get("condition") or {}).get("answer")
    if not wanted or answer:
        raise NoReproducerError("what must happen depends on more than a rule of the table")
    errnos = [str(name) for name in wanted.get("errnos") or ()]
    return {
        "EXPECT_ACCEPT": str(int(bool(wanted.get("accept")))),
        "REFUSALS": " ".join(f'{{ {name}, "{name}" }},' for name in errnos),
        "EXPECTED": _quoted(expected(record)),
        "EXPECT_PINNED": str(int(rule.pinned if rule else bool(wanted.get("accept")))),
        "MUST_LEAVE_MOVABLE": str(int(rule.must_leave_movable if rule else True)),
        "BY_FOLIO": str(int(bool(rule and rule.by_folio))),
        "DEADLINE": str(DEADLINE),
    }


def _rule(record: Record, meta: Mapping[str, Any]) -> Rule | None:
    """The row that the record was judged by, for what the record does not repeat of it."""
    family = str(_told(record, meta).get("family") or "")
    try:
        running = releases.parse(str(record.get("kernel")))
        found = facts(record.get("evidence") or {})
        rule = rule_for(family, str(record["memory"]), str(record["direction"]), running, found)
    except (HilError, ValueError):
        return None  # a table of today may say otherwise than the one of that day
    return rule if rule is not None and rule.id == record.get("rule") else None


def _told(record: Record, meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What run.json says of the record's pinner."""
    of_run: list[dict[str, Any]] = meta.get("pinners") or []
    return next((pinner for pinner in of_run if pinner.get("name") == record["pinner"]), {})


def _words(record: Record) -> dict[str, str]:
    return {
        "CELL": _quoted(str(record["cell"])),
        "SEEN_ON": _quoted(str(record.get("kernel") or "?")),
        "SEEN": _quoted(f"{record.get('verdict')}: {record.get('reason')}"),
    }


def _head(record: Record, meta: Mapping[str, Any], memory: Recipe) -> str:
    known = record.get("known") or {}
    told = [
        f"{record['cell']}",
        "",
        f"Seen on Linux {record.get('kernel')}"
        + (f" ({meta['board']})" if meta.get("board") else "")
        + f": {record.get('verdict')}: {record.get('reason')}",
        f"Expected: {expected(record)}.",
    ]
    if known:
        told.append(f"Known as {known.get('id')}: {known.get('reference')}")
    usage = "[NODE [DIRECTORY]]" if "FILE_SYSTEM" in memory.macros else "[NODE]"
    told += [
        "",
        "  gcc -Wall -Werror -static -o reproducer reproducer.c",
        f"  ./reproducer {usage}",
        "",
        "Run it as root, on a machine where nothing else pins memory.  Exit status: 0 all is as it "
        "must be, 1 it shows the defect, 2 this machine can't tell (the reason is printed).",
    ]
    if meta.get("command"):
        told += ["", f"Made by userptr-hil from: {command_line(meta['command'])}"]
    lines = [" *" + (f" {line}" if line else "") for line in _wrapped(told)]
    return "// SPDX-License-Identifier: GPL-2.0-or-later\n/*\n" + "\n".join(lines) + "\n */\n"


def _wrapped(told: list[str]) -> Iterator[str]:
    for line in told:
        text = clean(line).replace("*/", "* /")
        yield from textwrap.wrap(text, 92, subsequent_indent="  ", break_long_words=False,
                                 drop_whitespace=not line.startswith(" ")) or [""]  # fmt: skip


def _quoted(text: str) -> str:
    """A string of C: ASCII, one line, no trigraph."""
    shown = " ".join(clean(text).split()).encode("ascii", "backslashreplace").decode()
    for letter, written in (("\\", "\\\\"), ('"', '\\"'), ("?", "\\?"), ("%", "%")):
        shown = shown.replace(letter, written)
    return f'"{shown}"'
