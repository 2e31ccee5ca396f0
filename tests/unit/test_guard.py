# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard puts things back, however the suite ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil.errors import NotApplicableError
from hil.system.guard import Guard, chosen
from hil.system.switches import switched, value


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def in_child(body: Callable[[], None]) -> int:
    """Run in a forked child that never returns into pytest; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(1)
    return pid


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    path = tmp_path / "switch"
    path.write_text("before\n")
    return path


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard.start()
    yield guard
    guard.close()


def test_commands_are_appended_at_the_end_and_may_do_nothing(
    switch: Path, guard: Guard, tmp_path: Path
) -> None:
    guard.will_append(switch, "-:first\n")
    guard.will_append(switch, "-:second\n")
    guard.will_append(tmp_path / "gone", "-:third\n")
    assert guard.close()
    assert switch.read_text() == "before\n-:second\n-:first\n"


def test_restores_at_an_orderly_end(switch: Path, guard: Guard) -> None:
    guard.set(switch, "one")
    guard.set(switch, "two")
    assert switch.read_text() == "two"
    assert guard.close()
    assert switch.read_text() == "before"


def test_restores_after_sigkill(switch: Path) -> None:
    def suite() -> None:
        guard = Guard.start()
        guard.set(switch, "changed")
        os.kill(os.getpid(), signal.SIGKILL)

    pid = in_child(suite)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert eventually(lambda: switch.read_text() == "before")


def test_a_hung_child_that_holds_the_pipe_does_not_block_restoring(switch: Path) -> None:
    read, write = os.pipe()

    def suite() -> None:
        guard = Guard.start()
        guard.set(switch, "changed")
        hung = in_child(lambda: time.sleep(60))
        os.write(write, str(hung).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_child(suite), 0)
    hung = int(os.read(read, 20))
    try:
        assert eventually(lambda: switch.read_text() == "before")
        os.kill(hung, 0)  # it is still there
    finally:
        os.kill(hung, signal.SIGKILL)


def test_an_orderly_end_does_not_wait_for_a_hung_child(switch: Path, guard: Guard) -> None:
    hung = in_child(lambda: time.sleep(60))
    try:
        guard.set(switch, "changed")
        started = time.monotonic()
        assert guard.close()
        assert time.monotonic() - started < 5
        assert switch.read_text() == "before"
    finally:
        os.kill(hung, signal.SIGKILL)
        os.waitpid(hung, 0)


def test_a_child_records_through_the_same_guard_and_cannot_close_it(
    switch: Path, guard: Guard
) -> None:
    def cell() -> None:
        guard.set(switch, "changed by the child")
        guard.close()
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_child(cell), 0)
    assert switch.read_text() == "changed by the child"
    assert guard.close()
    assert switch.read_text() == "before"


def test_is_out_of_reach_of_the_terminals_signals(switch: Path, guard: Guard) -> None:
    guard.set(switch, "changed")
    assert os.getsid(guard.pid) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard.pid, number)
    assert guard.close()
    assert switch.read_text() == "before"


def test_restores_in_reverse_order(tmp_path: Path, guard: Guard) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    for folder in (outer, inner):
        guard.will_rmdir(folder)
        folder.mkdir()
    assert guard.close()
    assert not outer.exists()


def test_what_was_announced_and_never_made_is_no_failure(tmp_path: Path, guard: Guard) -> None:
    guard.will_rmdir(tmp_path / "never")
    guard.will_unlink(tmp_path / "never")
    guard.will_umount(tmp_path / "never")
    assert guard.close()


def test_says_when_it_could_not_restore(switch: Path, guard: Guard) -> None:
    guard.set(switch, "changed")
    switch.unlink()
    assert not guard.close()


def test_changes_nothing_once_the_guard_is_dead(switch: Path, guard: Guard) -> None:
    os.kill(guard.pid, signal.SIGKILL)
    os.waitid(os.P_PID, guard.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(BrokenPipeError):
        guard.set(switch, "changed")
    assert switch.read_text() == "before\n"
    assert not guard.close()


def test_changes_nothing_that_it_cannot_record(tmp_path: Path, guard: Guard) -> None:
    path = tmp_path / "long"
    path.write_text("x" * 5000)
    with pytest.raises(ValueError, match="4096 bytes"):
        guard.set(path, "short")
    assert path.read_text() == "x" * 5000


def test_holds_none_of_the_suites_descriptors(tmp_path: Path) -> None:
    read, write = os.pipe()
    guard = Guard.start()
    os.close(write)
    try:
        assert os.read(read, 1) == b""  # end of file: the guard has no write end
    finally:
        os.close(read)
        guard.close()


@pytest.mark.parametrize(
    ("text", "word"),
    [("always [madvise] never", "madvise"), ("16", "16"), ("[a", "[a"), ("", "")],
)
def test_the_word_to_write_back(text: str, word: str) -> None:
    assert chosen(text) == word


def test_switched_puts_back_what_it_changed_and_only_that(tmp_path: Path, guard: Guard) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("always [madvise] never")
    bad.write_text("never")
    wanted = {str(good): ("always", "madvise"), str(bad): ("advise", "always")}
    with switched(guard, wanted):
        assert good.read_text() == "always [madvise] never"
        assert value(bad) == "advise"
    assert value(bad) == "never"


def test_switched_needs_a_guard_to_change_anything(tmp_path: Path) -> None:
    path = tmp_path / "switch"
    path.write_text("never")
    refusal = pytest.raises(NotApplicableError, match="is 'never' and must be always")
    with refusal, switched(None, {str(path): ("always",)}):
        pass
    assert path.read_text() == "never"


def test_a_device_setting_comes_back_by_its_ioctl(guard: Guard) -> None:
    """A terminal's size, as a device node's setting."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    node = os.ttyname(theirs)

    def size() -> tuple[int, ...]:
        return struct.unpack("4H", fcntl.ioctl(theirs, termios.TIOCGWINSZ, bytes(8)))

    before = size()
    first = struct.pack("4H", 40, 100, 0, 0)
    guard.will_ioctl(node, "size", termios.TIOCSWINSZ, first)
    guard.will_ioctl(node, "size", termios.TIOCSWINSZ, struct.pack("4H", 1, 1, 0, 0))
    assert size() == before, "nothing is done before the end"
    assert guard.close()
    assert size() == (40, 100, 0, 0)
    os.close(ours)
    os.close(theirs)


def test_a_device_that_is_gone_needs_nothing_back(tmp_path: Path, guard: Guard) -> None:
    guard.will_ioctl(tmp_path / "video9", "input", 0x40045627, bytes(4))
    assert guard.close()
