# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that puts the machine back as it was, however the suite ends."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
from pathlib import Path

_GRACE = 1.0
"""Seconds given to the suite's children to go after it, once it is gone."""


class Guard:
    """Records how things were before each change, and restores them in reverse order at the end.

    A forked process of its own session holds the records.  They reach it through a packet pipe
    (pipe(2) O_DIRECT: each write is one message) *before* the change is made; what is in the pipe
    outlives the writer, so no answer is needed.  The end is ``close``, or the death of the process
    that called ``start`` in any way, SIGKILL too: the guard watches it by pidfd, since a hung child
    may hold the pipe open for ever.

    Children may use a guard that they inherited; only the process that started it can close it.
    """

    __slots__ = ("_owner", "_pid", "_pipe")

    def __init__(self, pipe: int, pid: int) -> None:
        self._pipe = pipe
        self._pid = pid
        self._owner = os.getpid()

    @classmethod
    def start(cls) -> Guard:
        """Fork the guard process; call it early, before threads are started."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
        suite = os.pidfd_open(os.getpid())
        ready, announce = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _become_guard(reader, suite, announce)
                _watch(reader, suite)
                status = 0
            finally:
                os._exit(status)
        for fd in (reader, suite, announce):
            os.close(fd)
        os.read(ready, 1)  # from here on no signal to the suite's group reaches it
        os.close(ready)
        return cls(writer, pid)

    @property
    def pid(self) -> int:
        """The guard process; 0 once closed."""
        return self._pid

    def set(self, path: str | Path, value: str | int) -> None:
        """Write ``value`` to a sysctl or sysfs file; its first value of the session comes back.

        Nothing is written when it is there already.  OSError when the file cannot be read or
        written, BrokenPipeError (before any change) when the guard is gone.
        """
        old = chosen(Path(path).read_text().strip())
        if old == str(value):
            return
        self._record("write", os.fspath(path), old)
        _write(os.fspath(path), str(value))

    def will_write(self, path: str | Path, text: str) -> None:
        """Have ``text`` written to a file at the end, for switches that do not read as written."""
        self._record("write", os.fspath(path), text)

    def will_append(self, path: str | Path, text: str) -> None:
        """Have a line written to a file of commands (kprobe_events) at the end; it may do nothing.

        Call it before what the command undoes.
        """
        self._record("append", os.fspath(path), text)

    def will_umount(self, mount_point: str | Path) -> None:
        """Have a mount point unmounted at the end; call it before mounting."""
        self._record("umount", os.fspath(mount_point))

    def will_swapoff(self, path: str | Path) -> None:
        """Have swap on a file or device turned off at the end; call it before swapon."""
        self._record("swapoff", os.fspath(path))

    def will_rmdir(self, path: str | Path) -> None:
        """Have a directory (a control group, say) removed at the end; call it before mkdir."""
        self._record("rmdir", os.fspath(path))

    def will_unlink(self, path: str | Path) -> None:
        """Have a file removed at the end; call it before making it."""
        self._record("unlink", os.fspath(path))

    def will_ioctl(self, node: str | Path, what: str, number: int, argument: bytes) -> None:
        """Have an ioctl made on a device node at the end, which puts the setting ``what`` back.

        The first argument that is told for a node and setting is the one that it gets.
        """
        self._record("ioctl", os.fspath(node), what, str(number), argument.hex())

    def close(self) -> bool:
        """Restore now and wait for it; False when something could not be put back.

        Does nothing in a child of the process that started the guard.
        """
        if not self._pid or os.getpid() != self._owner:
            return True
        with contextlib.suppress(OSError):  # it died: its status tells
            self._record("end")
        os.close(self._pipe)
        pid, self._pid = self._pid, 0
        _, status = os.waitpid(pid, 0)
        return status == 0

    def _record(self, kind: str, *words: str) -> None:
        message = "\0".join((kind, *words)).encode()
        if len(message) > select.PIPE_BUF:
            raise ValueError(f"a guard record takes {select.PIPE_BUF} bytes at most: {words[0]}")
        if not self._pid:
            raise BrokenPipeError("the guard was closed")
        os.write(self._pipe, message)


def chosen(text: str) -> str:
    """What to write back to a switch that reads "always [madvise] never": the word in brackets."""
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else text


def _become_guard(reader: int, suite: int, announce: int) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    # Nobody who reads the suite's output should wait for the guard, and the pipe's own write end
    # in here would keep it open for ever.
    null = os.open("/dev/null", os.O_RDWR)
    for fd in {0, 1, 2} - {reader, suite, announce}:
        os.dup2(null, fd)
    start = 3
    for keep in sorted((reader, suite, announce)):
        os.closerange(start, keep)
        start = keep + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
    os.write(announce, b"1")
    os.close(announce)


def _watch(reader: int, suite: int) -> None:
    """Collect records until the end, then restore; exits with 1 when something failed."""
    records: list[tuple[str, ...]] = []
    seen: set[tuple[str, ...]] = set()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(suite, select.POLLIN)
    timeout = None
    while True:
        ready = dict(poll.poll(timeout))
        if reader in ready:
            message = os.read(reader, select.PIPE_BUF)
            if not message or message == b"end":
                break
            record = tuple(message.decode().split("\0"))
            # The first value is the one to come back; later ones are the suite's own.
            name = record[: 3 if record[0] in ("ioctl", "append") else 2]
            if name not in seen:
                seen.add(name)
                records.append(record)
        elif suite in ready and timeout is None:
            # A child may be between its record and its change: let it finish or go.
            poll.unregister(suite)
            timeout = int(_GRACE * 1000)
        elif not ready:
            break
    os.close(reader)
    failed = [record for record in reversed(records) if not _restore(record)]
    if failed:
        _complain(failed)
        os._exit(1)


def _restore(record: tuple[str, ...]) -> bool:
    kind, path, *rest = record
    try:
        if kind == "write":
            _write(path, rest[0])
        elif kind == "append":
            _write(path, rest[0], os.O_APPEND)
        elif kind == "ioctl":
            _ioctl(path, int(rest[1]), bytes.fromhex(rest[2]))
        elif kind == "umount":
            _call("umount2", path.encode(), 2)  # MNT_DETACH
        elif kind == "swapoff":
            _call("swapoff", path.encode())
        elif kind == "rmdir":
            os.rmdir(path)  # noqa: PTH106
        elif kind == "unlink":
            os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return kind != "write"  # never made, or gone already: unplugged, unloaded
    except OSError as error:
        # Announced but not done: not mounted, no swap there.
        return kind in ("umount", "swapoff", "append") and error.errno == 22
    return True


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ioctl(path: str, number: int, argument: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, number, bytearray(argument))
    finally:
        os.close(fd)


def _write(path: str, text: str, how: int = os.O_TRUNC) -> None:
    # One write(2), as switches want it, and no O_CREAT; O_TRUNC matters to ordinary files only.
    fd = os.open(path, os.O_WRONLY | how | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _complain(failed: list[tuple[str, ...]]) -> None:
    """Into the kernel log, the one place that is left to be read."""
    try:
        fd = os.open("/dev/kmsg", os.O_WRONLY)
    except OSError:
        return
    for record in failed:
        os.write(fd, f"<4>hil guard: could not restore {' '.join(record)[:800]}".encode())
    os.close(fd)
