# SPDX-License-Identifier: GPL-2.0-or-later
"""The return probe that tells why a driver refused, on a tracefs made of plain files."""

from __future__ import annotations

import os
from pathlib import Path

from hil.evidence.answers import Answers

LINE = (
    "       python3-{pid}     [000] ..... 12.3: vb2_create_framevec: "
    "(vb2_dma_sg_get_userptr+0x9a/0x1f0 [videobuf2_dma_sg] <- vb2_create_framevec) value={value}\n"
)


def tracefs(folder: Path) -> Path:
    (folder / "instances/hil-answers/events/hil_answers").mkdir(parents=True)
    (folder / "kprobe_events").write_text("p:other/probe do_exit\n")
    (folder / "instances/hil-answers/trace_pipe").touch()
    return folder


def test_errnos_of_the_process_are_told_by_name(tmp_path: Path) -> None:
    found = Answers.arm("vb2_create_framevec", None, tracefs(tmp_path))
    assert found is not None
    pipe = tmp_path / "instances/hil-answers/trace_pipe"
    with pipe.open("a") as trace:
        trace.write(LINE.format(pid=7, value=-14))
        trace.flush()
        found.skip()
        for pid, value in ((7, -14), (8, -22), (7, -95), (7, -120_000_000_000), (7, 0)):
            trace.write(LINE.format(pid=pid, value=value))
    assert found.seen(7) == ["EFAULT", "EOPNOTSUPP", "0", "0"]
    assert found.seen(7) == []
    os.close(found._pipe)


def test_the_probe_is_put_beside_those_of_others(tmp_path: Path) -> None:
    assert Answers.arm("vb2_create_framevec", None, tracefs(tmp_path)) is not None
    events = (tmp_path / "kprobe_events").read_text()
    assert events.startswith("p:other/probe")
    assert "r:hil_answers/vb2_create_framevec vb2_create_framevec value=$retval:s64" in events
    assert (tmp_path / "instances/hil-answers/events/hil_answers/enable").read_text() == "1"


def test_a_machine_without_probes_has_none(tmp_path: Path) -> None:
    assert Answers.arm("vb2_create_framevec", None, tmp_path / "nowhere") is None
