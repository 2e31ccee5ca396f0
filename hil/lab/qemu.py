# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process: its monitor, the port to the guest, and its end."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from hil.errors import HilError
from hil.lab import cache

CONTROL_PORT = "org.hil.control"
_MONITOR_SECONDS = 20.0
_SEND_SECONDS = 20.0
_NMI_SECONDS = 2.0
_END_SECONDS = 5.0
_LOOK_SECONDS = 3.0
"""How often to look at a guest that says nothing."""


class LostVmError(Exception):
    """The QEMU process is gone, or its monitor does not answer any more."""


class Vm:
    """A running QEMU.  Use as a context manager: leaving it kills the process."""

    def __init__(
        self,
        argv: Sequence[str],
        console: Path,
        *,
        incoming: bool = False,
        fds: Sequence[int] = (),
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """``fds`` are descriptors that ``argv`` speaks of.

        ``started`` is called when QEMU has them, before it is asked anything.
        """
        self.started = time.monotonic()
        pairs = [socket.socketpair() for _ in range(3)]
        theirs = [pair[1] for pair in pairs]
        self.control, self._console, monitor = (pair[0] for pair in pairs)
        for sock in (self.control, self._console):
            sock.setblocking(False)
        whole = [*argv, *_sockets([s.fileno() for s in theirs])]
        if incoming:
            whole += ["-incoming", "defer"]
        self.console_path = console
        with self._full_disk():
            self._log = console.open("ab", buffering=0)
        try:
            self._process = subprocess.Popen(
                whole, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=[*(s.fileno() for s in theirs), *fds],
                process_group=0,  # Ctrl-C is for us: we end the guest in our own time
            )  # fmt: skip
        finally:
            for sock in theirs:
                sock.close()
        started()
        self._pending = b""
        self._recent = bytearray()
        self._closed = False
        self._monitor = QEMUMonitorProtocol(monitor)
        self._monitor.settimeout(_MONITOR_SECONDS)
        try:
            with _undisturbed():
                self._monitor.connect()
        except (TimeoutError, QMPError, OSError) as error:
            self.kill()
            raise HilError(
                f"QEMU did not start: {self.tail(6) or error}",
                f"Its words are at the end of {console}; `hil doctor` checks QEMU.",
            ) from error
        except BaseException:
            self.kill()
            raise

    def qmp(self, name: str, **arguments: object) -> Any:
        """Run a monitor command; LostVmError when QEMU is gone or silent."""
        try:
            with _undisturbed():
                return self._monitor.cmd(name, **arguments)
        except (TimeoutError, QMPError, OSError, EOFError) as error:
            raise LostVmError(f"{name}: {error}") from error

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def terminate(self) -> None:
        """Make the process end at once; whoever uses this object notices and calls `kill`."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def end(self) -> int | None:
        """How QEMU ended; None while it runs.

        0 when the guest reset itself or powered off, a negative number when a signal of the host
        ended QEMU.  A QEMU that has closed the guest's port is waited for: it is about to end.
        """
        if not self._closed:
            return self._process.poll()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_END_SECONDS)
        return None

    def failed(self) -> bool:
        """Whether the hypervisor, not the guest, has come to its end (RUN_STATE_INTERNAL_ERROR).

        KVM does where it meets an instruction that it would have to emulate and cannot; QEMU then
        stays, and its words are in the console's log.
        """
        try:
            return bool(self.alive and self.qmp("query-status")["status"] == "internal-error")
        except LostVmError:
            return False

    def nmi(self) -> None:
        """Send every CPU an NMI; LostVmError when the monitor does not answer at once."""
        self._monitor.settimeout(_NMI_SECONDS)
        try:
            self.qmp("inject-nmi")
        finally:
            self._monitor.settimeout(_MONITOR_SECONDS)

    def waits(self) -> dict[str, int]:
        """Nanoseconds that each thread of QEMU was ready to run and the host gave it no CPU.

        Documentation/scheduler/sched-stats.rst: /proc/PID/schedstat; empty where there is none.
        """
        found = {}
        for file in Path(f"/proc/{self.pid()}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                found[file.parent.name] = int(file.read_text().split()[1])
        return found

    def starved(self, before: Mapping[str, int]) -> float:
        """Seconds since ``before`` (`waits`) that the worst-off thread had to wait for a CPU."""
        now = self.waits()
        return max((ns - before.get(task, 0) for task, ns in now.items()), default=0) / 1e9

    def send(self, message: dict[str, object]) -> None:
        """Write one line to the guest's port; LostVmError when nobody is there or reads."""
        try:
            self.control.settimeout(_SEND_SECONDS)
            self.control.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LostVmError(str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                self.control.setblocking(False)

    def lines(self, deadline: float) -> Iterator[bytes]:
        """Lines from the guest's port until ``deadline`` (monotonic seconds) or the guest's end.

        Also that of the hypervisor, which is looked at every few seconds of silence.

        The console is logged meanwhile.  Who wants to go on calls again with a new deadline.
        """
        look = time.monotonic() + _LOOK_SECONDS
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                yield line
            if time.monotonic() > look:
                if self.failed():
                    return
                look = time.monotonic() + _LOOK_SECONDS
            left = deadline - time.monotonic()
            if left <= 0:
                return
            readable, _, _ = select.select([self.control, self._console], [], [], min(left, 0.5))
            if self._console in readable:
                self._read_console()
            if self.control in readable:
                data = _receive(self.control)
                self._pending += data or b""
                if data == b"":
                    self._closed = True
                    return

    def _read_console(self) -> None:
        while data := _receive(self._console):
            self._recent = (self._recent + data)[-65536:]
            with self._full_disk():
                self._log.write(data)

    def _full_disk(self) -> contextlib.AbstractContextManager[None]:
        return cache.full_disk_is_an_error(self.console_path.parent, "the console log")

    def listen(self, seconds: float) -> None:
        """Log what the console says for at most ``seconds``, less when QEMU ends."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([self._console], [], [], min(left, 0.1))
            if readable:
                self._read_console()
                if _receive_end(self._console):
                    return
            elif not self.alive:
                return

    def tail(self, lines: int = 60) -> str:
        """The last lines of the console, or of QEMU's own words when the guest said nothing."""
        text = bytes(self._recent) or self.console_path.read_bytes()[-8192:]
        return "\n".join(text.decode("utf-8", "replace").splitlines()[-lines:])

    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    def kill(self) -> None:
        """End the process and close everything; safe to call twice."""
        if self._log.closed:
            return
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        with contextlib.suppress(Exception):
            self._read_console()
        with contextlib.suppress(Exception), _undisturbed():
            self._monitor.close()
        for sock in (self.control, self._console):
            sock.close()
        self._log.close()

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def patient_line(vm: Vm, limit: float, patience: float = 10.0) -> bytes | None:
    """The next line from the guest; None when it is gone, or silent for ``limit`` seconds.

    Seconds in which the host gave QEMU no CPU do not count, up to ``patience`` times the limit.
    """
    began, before = time.monotonic(), vm.waits()
    starved = 0.0
    while True:
        for line in vm.lines(began + limit + starved):
            return line
        more = min(vm.starved(before), (patience - 1) * limit)
        if vm.end() is not None or vm.failed() or more < starved + 1.0:
            return None
        starved = more


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals count after the block: one that raises within asyncio leaves its tasks a mess."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    kept = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for one in came:
            signal.raise_signal(one)


def _sockets(fds: Sequence[int]) -> list[str]:
    control, console, monitor = fds
    return [
        "-chardev", f"socket,id=control,fd={control}",
        "-device", f"virtserialport,chardev=control,name={CONTROL_PORT}",
        "-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console",
        "-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control",
    ]  # fmt: skip


def _receive(sock: socket.socket) -> bytes | None:
    """What there is to read: b"" at the end, None when there is nothing now."""
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _receive_end(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def quit_quietly(vm: Vm) -> None:
    """Let QEMU write out what it has and end; kill it when it does not."""
    with contextlib.suppress(LostVmError):
        vm.qmp("quit")
    vm.kill()
