# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal keeps what was written, whatever happens while it is written."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
import tty
from pathlib import Path

import pytest

from hil.errors import HilError
from hil.runs.journal import Journal, decode, read, scan


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    records = [{"cell": f"a/b/capture/{n}", "reason": "\ud800 \u2028 é"} for n in range(5)]
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        for record in records:
            journal.write(record)
    assert read(tmp_path / "journal.jsonl") == records
    assert (tmp_path / "journal.jsonl").read_bytes().isascii()


def test_a_second_opening_appends(tmp_path: Path) -> None:
    for number in range(3):
        with Journal.open(tmp_path / "j") as journal:
            journal.write({"cell": str(number)})
    assert [record["cell"] for record in read(tmp_path / "j")] == ["0", "1", "2"]


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_a_torn_last_line_is_reported_and_costs_one_record(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    with Journal.open(path) as journal:
        journal.write({"cell": "one"})
        journal.write({"cell": "two", "x": 1})
    os.truncate(path, path.stat().st_size - 1 - cut)
    contents = scan(path)
    assert [record["cell"] for record in contents.records] == ["one"]
    assert len(contents.torn) == 1
    assert "j:2: the last line is torn" in contents.torn[0]


def test_a_whole_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text('{"cell":"one"}\n{"cell":"two"}')
    assert [record["cell"] for record in read(path)] == ["one", "two"]


def test_a_record_written_after_a_torn_line_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text('{"cell":"one"}\n{"cell":"tw')
    with Journal.open(path) as journal:
        journal.write({"cell": "three"})
    contents = scan(path)
    assert [record["cell"] for record in contents.records] == ["one", "three"]
    assert "j:2: not a record" in contents.torn[0]


def test_the_cell_in_flight_is_known_until_its_record_is_there(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path) as journal:
        assert scan(path).in_flight is None
        journal.begin("a-long-name-to-be-overwritten/" + "x" * 600)
        journal.begin("one")
        assert scan(path).in_flight == "one"
        journal.write({"cell": "one"})
        assert scan(path).in_flight is None
        journal.begin("two")
        assert scan(path).in_flight == "two"
        # The same cell once more, as a resumed run does.
        journal.write({"cell": "two"})
        journal.begin("two")
        assert scan(path).in_flight == "two"


def test_a_finished_journal_leaves_no_note_behind(tmp_path: Path) -> None:
    for finished in (True, False):
        with Journal.open(tmp_path / "j") as journal:
            journal.begin("one")
            if finished:
                journal.write({"cell": "one"})
        assert (tmp_path / "inflight").exists() is not finished


def test_a_torn_record_leaves_its_cell_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path) as journal:
        journal.begin("one")
    with path.open("ab") as file:
        file.write(b'{"cell":"one","verd')
    assert scan(path).in_flight == "one"


def test_begin_lines_of_a_port_tell_the_cell_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text('{"begin":"one"}\n{"cell":"one"}\n{"begin":"two"}\n')
    assert scan(path) == ([{"cell": "one"}], "two", [])


def test_a_port_gets_begin_lines_and_survives_fsync() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        # A terminal refuses fsync with EINVAL, as a virtio-serial port does.
        with pytest.raises(OSError, match="Invalid argument") as refused:
            os.fsync(slave)
        assert refused.value.errno == errno.EINVAL
        with Journal.open(os.ttyname(slave)) as journal:
            journal.begin("one")
            journal.write({"cell": "one"})
        got = b""
        while got.count(b"\n") < 2:
            got += os.read(master, 4096)
    finally:
        os.close(master)
        os.close(slave)
    assert [decode(line) for line in got.splitlines()] == [{"begin": "one"}, {"cell": "one"}]


def test_a_missing_port_does_not_become_a_file() -> None:
    path = Path("/dev/virtio-ports-of-no-machine")
    with pytest.raises(HilError, match="No such file"):
        Journal.open(path)
    assert not path.exists()


def test_a_full_disk_is_said_and_nothing_written_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    real = os.write
    with Journal.open(path) as journal:
        journal.write({"cell": "one"})
        calls = []

        def short(fd: int, data: bytes) -> int:
            calls.append(len(data))
            if len(calls) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data[:7])

        monkeypatch.setattr(os, "write", short)
        with pytest.raises(HilError, match="No space left") as error:
            journal.write({"cell": "two", "log": "x" * 100})
        assert "--resume" in error.value.hint
        monkeypatch.undo()
        assert path.read_text() == '{"cell":"one"}\n'
        journal.write({"cell": "three"})
    assert [record["cell"] for record in read(path)] == ["one", "three"]


def test_a_full_device_is_said_too() -> None:
    with Journal.open("/dev/full") as journal, pytest.raises(HilError, match="No space left"):
        journal.write({"cell": "one"})


def test_a_disk_that_turns_out_full_at_fsync_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with Journal.open(tmp_path / "j") as journal:
        journal.write({"cell": "one"})
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(HilError, match="quota"):
            journal.write({"cell": "two"})
    assert read(tmp_path / "j") == [{"cell": "one"}]


def test_begin_and_write_are_on_the_disk_when_they_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(
            os, name, lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        )
    with Journal.open(tmp_path / "j") as journal:
        journal.begin("one")
        assert synced == ["inflight"]
        journal.write({"cell": "one"})
        assert synced == ["inflight", "j"]


def test_nan_is_an_error_and_not_a_line_that_nobody_can_read(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j") as journal, pytest.raises(ValueError, match="Out of range"):
        journal.write({"cell": "one", "seconds": float("nan")})
    assert read(tmp_path / "j") == []


@pytest.mark.parametrize("line", [b"", b"[]", b"1", b'{"a":1}', b"\xff", b"{"])
def test_what_is_not_a_record_is_not_taken_for_one(line: bytes) -> None:
    assert decode(line) is None


def test_a_missing_journal_is_said(tmp_path: Path) -> None:
    with pytest.raises(HilError, match="No such file"):
        scan(tmp_path / "j")


def test_every_line_is_there_when_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    code = (
        "import os, sys; from hil.runs.journal import Journal\n"
        "j = Journal.open(sys.argv[1]); j.write({'cell': 'one'}); j.begin('two'); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    contents = scan(path)
    assert contents.records == [{"cell": "one"}]
    assert contents.in_flight == "two"
    assert json.loads((tmp_path / "inflight").read_text())["begin"] == "two"
