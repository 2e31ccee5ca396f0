# SPDX-License-Identifier: GPL-2.0-or-later
"""The C programs of `hil report`: each compiles without a warning, or it is said why there is none.

That they show what the suite saw is tested in a guest: tests/lab/test_reproducers.py.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hil.conditions import all_conditions
from hil.memory.base import all_classes
from hil.report.grid import whole
from hil.report.reproducer import NoReproducerError, program
from hil.report.reproducer.classes import Recipe, recipe
from hil.report.reproducer.parts import linked, parts
from hil.rules.table import table

CLASSES = sorted(all_classes())
META = {
    "board": "virtual-x86",
    "command": "hil run",
    "pinners": [{"name": "v4l2-vivid-video0", "node": "/dev/video0"}],
}
PROOFS = {
    "pci-bar": {"resource": "/sys/bus/pci/devices/0000:00:04.0/resource2"},
    "device-dax": {"node": "/dev/dax0.0"},
    "v4l2-mmap-buffer": {"node": "/dev/video1"},
    "drm-dumb-buffer": {"Name": "/dev/dri/card0 (deleted)"},
}


def record(cell: str = "v4l2-vivid-video0/anonymous/capture/steady", **more: Any) -> dict[str, Any]:
    memory = cell.split("/")[1]
    evidence = {
        "stage": "done",
        "call": "VIDIOC_QBUF",
        "errno": None,
        "buffer": {"proof": PROOFS.get(memory, {})},
        "data": {"bytes": 100, "corrupt_bytes": 0},
    }
    return {
        "cell": cell,
        "driver": "vivid",
        "kernel": "6.12.107",
        "expected": {"accept": True, "errnos": []},
        "rule": "anonymous",
        "verdict": "ok",
        "reason": "VIDIOC_QBUF accepted it, as it must",
        "evidence": evidence,
        **more,
    }


def compiled(text: str, folder: Path) -> None:
    """With what the mail says, and more; a C compiler is needed."""
    gcc = shutil.which("gcc")
    if gcc is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("needs gcc, libc6-dev and linux-libc-dev")
    source = folder / "reproducer.c"
    source.write_text(text)
    command = [gcc, "-Wall", "-Wextra", "-Werror", "-c", "-o", "/dev/null", source]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def of(memory: str, condition: str = "steady") -> dict[str, Any]:
    return whole(record(f"v4l2-vivid-video0/{memory}/capture/{condition}"))


RECIPES = {memory: recipe(of(memory)) for memory in CLASSES}
# One class for each part of memory.c: the others differ in macros.
EACH_PART = {found.part: name for name, found in RECIPES.items() if isinstance(found, Recipe)}


@pytest.mark.parametrize("memory", EACH_PART.values())
def test_each_way_of_making_memory_compiles(memory: str, tmp_path: Path) -> None:
    compiled(program(of(memory), META), tmp_path)


def test_each_other_memory_class_says_why_not() -> None:
    # Folios of a size, CMA, userfaultfd, ksmd, chosen frames: no more.
    words = ("large-folio", "-pmd", "tmpfs-thp", "thp-cma", "ksm", "userfaultfd", "apart",
             "second-vma")  # fmt: skip
    for memory, found in RECIPES.items():
        if isinstance(found, str):
            assert any(word in memory for word in words), memory
            with pytest.raises(NoReproducerError, match=memory):
                program(of(memory), META)


@pytest.mark.parametrize("condition", sorted(all_conditions()))
def test_each_condition_compiles_or_says_why_not(condition: str, tmp_path: Path) -> None:
    given = of("anonymous", condition)
    try:
        text = program(given, META)
    except NoReproducerError as error:
        assert condition in error.reason
        return
    assert condition in parts()["conditions.c"]
    compiled(text, tmp_path)


def test_a_condition_needs_macros_of_memory_too(tmp_path: Path) -> None:
    compiled(program(of("ext4-shared", "dontneed"), META), tmp_path)


@pytest.mark.parametrize(
    ("pinner", "direction", "told"),
    [
        ("v4l2-vivid-video0", "capture", "V4L2_BUF_TYPE_VIDEO_CAPTURE\n"),
        ("v4l2-vivid-video1-prepare", "output", "#define CALL VIDIOC_PREPARE_BUF"),
        ("v4l2-vivid-video5-mplane", "output", "V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE"),
        ("v4l2-vivid-video2-meta", "capture", "V4L2_BUF_TYPE_META_CAPTURE"),
        ("v4l2-vivid-vbi1-sliced", "output", "V4L2_BUF_TYPE_SLICED_VBI_OUTPUT"),
        ("v4l2-vivid-vbi0", "capture", "V4L2_BUF_TYPE_VBI_CAPTURE"),
        ("v4l2-vivid-swradio0", "capture", "V4L2_BUF_TYPE_SDR_CAPTURE"),
        ("v4l2-vivid-v4l-touch0", "capture", "V4L2_BUF_TYPE_VIDEO_CAPTURE"),
        ("io-uring", "capture", "IORING_REGISTER_BUFFERS"),
    ],
)
def test_each_kind_of_queue_compiles(
    pinner: str, direction: str, told: str, tmp_path: Path
) -> None:
    # As discovery names them; the node is run.json's.
    node = pinner.split("-", 2)[2].removesuffix("-prepare") if "-" in pinner[3:] else ""
    for suffix in ("-mplane", "-meta", "-sliced"):
        node = node.removesuffix(suffix)
    meta = {"pinners": [{"name": pinner, "node": f"/dev/{node}"}]}
    text = program(record(f"{pinner}/anonymous/{direction}/steady"), meta)
    assert told in text
    compiled(text, tmp_path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"cell": "habanalabs-gaudi0/anonymous/capture/steady"}, "run the cell itself"),
        ({"cell": "v4l2-tw68-video0-720x576/anonymous/capture/steady"}, "a format of its own"),
        ({"verdict": "not-applicable"}, "could not make the cell"),
        ({"verdict": "not-held"}, "the condition's own checks"),
        ({"verdict": "no-rule"}, "no rule says"),
        ({"cell": "v4l2-vivid-video1/anonymous/output/steady", "verdict": "corrupt"}, "the bytes"),
    ],
)
def test_nothing_false_is_made(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(NoReproducerError) as error:
        program(record(**changed), META)
    assert told in error.value.reason


def test_what_hangs_on_chance_has_no_program() -> None:
    name = "v4l2-vivid-video0"
    of_contig = {"name": name, "node": "/dev/video0", "family": "vb2-dma-contig",
                 "allocator": "dma-contig", "directions": ["capture"]}  # fmt: skip
    rows = {row.id for row in table("vb2-dma-contig").rows if "scattered" in row.when}  # type: ignore[union-attr]
    assert rows
    for rule in rows:
        with pytest.raises(NoReproducerError, match="which frames the memory gets"):
            program(record(rule=rule), {"pinners": [of_contig]})
    both = {**of_contig, "directions": ["capture", "output"]}
    with pytest.raises(NoReproducerError, match="a picture of a size"):
        program(record(), {"pinners": [both]})


def test_hostile_text_stays_in_strings_and_comments(tmp_path: Path) -> None:
    text = '*/ " \\ \n #error ??/ ??) %s %n \x1b[31m ü \udcff'
    compiled(program(record(reason=text, known={"id": text, "reference": text}), META), tmp_path)


@pytest.mark.parametrize(
    ("verdict", "zones", "macro"),
    [
        ("kernel-warning", {}, "#define WARNING_SEEN"),
        ("corrupt", {}, "#define BLIND"),
        ("stayed", {"0/Normal": 3}, "#define BLIND"),
        ("stayed", {"0/Normal": 3, "1/Movable": 3}, ""),
        ("leak", {}, ""),
    ],
)
def test_status_0_is_not_given_unseen(
    verdict: str, zones: dict[str, int], macro: str, tmp_path: Path
) -> None:
    given = record(verdict=verdict)
    given["evidence"]["frames"] = {"during": {"zones": zones}}
    text = program(given, META)
    defines = [line for line in text.splitlines() if line.startswith("#define")]
    blind = [line for line in defines if "BLIND" in line or "WARNING_SEEN" in line]
    assert len(blind) == bool(macro)
    assert all(line.startswith(macro) for line in blind)
    compiled(text, tmp_path)


def test_expected_errnos_are_in_the_program(tmp_path: Path) -> None:
    refused = {"accept": False, "errnos": ["EFAULT", "EINVAL"]}
    text = program(record(expected=refused), META)
    assert '{ EFAULT, "EFAULT" }, { EINVAL, "EINVAL" },' in text
    assert "#define EXPECT_ACCEPT 0" in text
    assert '"refused with EFAULT or EINVAL"' in text
    compiled(text, tmp_path)


def test_only_what_is_needed_is_in_the_program() -> None:
    text = program(record(), META)
    assert "huge_pages" not in text and "memfd_create" not in text
    assert len(text.splitlines()) < 700


def test_parts_name_parts() -> None:
    for file, named in parts().items():
        for name in named:
            assert linked([(file, name)])


def test_a_part_comes_once_after_those_that_it_needs() -> None:
    text = linked([("memory.c", "thp-movable"), ("memory.c", "thp")])
    assert text.count("static char *huge_pages(") == 1
    assert text.index("static char *place(") < text.index("static char *huge_pages(")
