# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml, made from the journal: one test case a cell, for continuous integration.

A cell that is known as bad is skipped with type ``pytest.xfail``, as pytest writes an xfail.  An
unexpected pass is a failure, as a strict xfail is.

Written as it is made: a tree of 100,000 cases would take gigabytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hil.report.essence import essentials, kernel_said
from hil.report.grid import whole
from hil.report.output import write_whole
from hil.report.text import clean, command_line
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, last_of_each, outcome_of
from hil.runs.stream import Cells

Record = Mapping[str, Any]
_CASE_PROPERTIES = ("kernel", "driver", "memory", "direction", "condition", "verdict", "rule")
_RUN_PROPERTIES = ("run", "board", "kernel", "kernel_spec", "uname", "command", "status")
_SPOOL = 8 << 20
_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_ATTRIBUTE = _TEXT | str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})


def write(folder: RunFolder) -> None:
    """Write the run's junit.xml."""
    write_whole(folder.junit, lines(Cells(folder.journal), folder.read_meta()))


def write_junit(
    path: Path, records: Iterable[Record], meta: Mapping[str, Any] | None = None
) -> None:
    """Write the file in one step; `meta` is run.json.  HilError when it cannot be written."""
    write_whole(path, lines(last_of_each(records), meta or {}))


def lines(records: Iterable[Record], meta: Mapping[str, Any]) -> Iterator[str]:
    """The document in parts: one suite, properties of the run on it, of each cell on its case.

    ``records`` has one a cell.  The head counts the cases, so they wait on disk until all are made.
    """
    counts = dict.fromkeys(Outcome, 0)
    seconds = 0.0
    with tempfile.SpooledTemporaryFile(_SPOOL, "w+", encoding="utf-8", newline="\n") as cases:
        for given in records:
            record = whole(given)
            outcome = outcome_of(record)
            counts[outcome] += 1
            seconds += float(record.get("seconds") or 0.0)
            cases.write(_case(record, outcome))
        cases.seek(0)
        failures = counts[Outcome.FAIL] + counts[Outcome.UNEXPECTED_PASS]
        sums = {
            "tests": sum(counts.values()), "failures": failures, "errors": counts[Outcome.ERROR],
            "skipped": counts[Outcome.SKIP] + counts[Outcome.KNOWN], "time": round(seconds, 3),
        }  # fmt: skip
        of_suite = {"timestamp": meta.get("started"), "hostname": meta.get("board")}
        suite = {"name": "hil", **{name: text for name, text in of_suite.items() if text}, **sums}
        yield "<?xml version='1.0' encoding='UTF-8'?>\n"
        yield f"<testsuites{_attributes({'name': 'hil', **sums})}>\n<testsuite{_attributes(suite)}>"
        yield _properties(_about(meta))
        while part := cases.read(1 << 20):
            yield part
    yield "\n</testsuite>\n</testsuites>\n"


def _about(meta: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {
        name: command_line(meta[name]) for name in _RUN_PROPERTIES if meta.get(name)
    }
    found |= {f"version.{name}": text for name, text in (meta.get("versions") or {}).items()}
    found |= {f"config.{name}": text for name, text in (meta.get("config") or {}).items()}
    return found


def _case(record: Record, outcome: Outcome) -> str:
    about = {
        "name": f"{record['memory']}/{record['direction']}/{record['condition']}",
        "classname": record["pinner"],
        "time": float(record.get("seconds") or 0.0),
    }
    known = record.get("known") or {}
    properties = {key: record[key] for key in _CASE_PROPERTIES if record.get(key)}
    properties["outcome"] = str(outcome)
    if known:
        properties |= {"known": known.get("id"), "reference": known.get("reference")}
    told = _properties({key: value for key, value in properties.items() if value})
    return f"\n<testcase{_attributes(about)}>{told}{_result(record, outcome)}\n</testcase>"


def _result(record: Record, outcome: Outcome) -> str:
    verdict = str(record.get("verdict"))
    reason = record.get("reason") or verdict
    known = record.get("known") or {}
    if outcome is Outcome.PASS:
        return ""
    if outcome is Outcome.SKIP:
        return f"\n<skipped{_attributes({'message': reason, 'type': 'pytest.skip'})} />"
    if outcome is Outcome.KNOWN:
        text = f"{verdict}: {reason} [{known.get('id')}: {known.get('reference')}]"
        return f"\n<skipped{_attributes({'message': text, 'type': 'pytest.xfail'})} />"
    tag, message, kind = "failure", f"{verdict}: {reason}", verdict
    if outcome is Outcome.ERROR:
        tag, message = "error", str(reason)
    elif outcome is Outcome.UNEXPECTED_PASS:
        message = f"[XPASS(strict)] known as {known.get('id')}: {known.get('reference')}"
        kind = str(outcome)
    # What a reader of the CI page needs first.
    told = [clean(f"hil show RUN {record['cell']}"), *essentials(record), *kernel_said(record)]
    text = "\n".join(told).translate(_TEXT)
    return f"\n<{tag}{_attributes({'message': message, 'type': kind})}>{text}</{tag}>"


def _properties(values: Mapping[str, object]) -> str:
    if not values:
        return ""
    inner = "".join(_property(name, str(value)) for name, value in values.items())
    return f"\n<properties>{inner}\n</properties>"


@lru_cache(1024)  # most cells have the same driver, kernel, rule
def _property(name: str, value: str) -> str:
    return f"\n<property{_attributes({'name': name, 'value': value})} />"


def _attributes(values: Mapping[str, object]) -> str:
    pairs = ((name, clean(value).translate(_ATTRIBUTE)) for name, value in values.items())
    return "".join(f' {name}="{text}"' for name, text in pairs)
