# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process: its command line, its monitor, the port to the guest, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from hil.errors import HilError
from hil.lab import hosttools, ram
from hil.lab.board import Machine

CONTROL_PORT = "org.hil.control"
_MONITOR_SECONDS = 20.0
_EMULATORS = {"x86_64": "qemu-system-x86_64"}


class Boot(NamedTuple):
    """What a guest starts from, whichever way."""

    kernel: Path
    initramfs: Path
    image: Path
    command_line: str
    accelerator: str


class LostVmError(Exception):
    """The QEMU process is gone, or its monitor does not answer any more."""


def version(arch: str = "x86_64") -> str:
    """QEMU's own version line; HilError when it is not installed."""
    emulator = hosttools.need(
        _EMULATORS[arch], "A lab machine runs the suite without: pytest -m hw."
    )
    done = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else f"{emulator} says nothing"


def nice_path(path: Path) -> str:
    """A path as QEMU's option parser wants it: a comma is doubled."""
    return os.fspath(path).replace(",", ",,")


def command(machine: Machine, boot: Boot, folder: Path, *, shared: bool) -> list[str]:
    """QEMU's command line but for the sockets.

    ``folder`` holds the RAM files; ``shared`` makes the guest write to them, else it has a private
    copy on write.  No network device, no host file system.
    """
    emulator = str(hosttools.need(_EMULATORS[machine.arch]))
    processor = machine.cpu_emulated if boot.accelerator.startswith("tcg") else machine.cpu
    argv = [
        # QEMU dies with us however we die, so that no guest is ever left behind.
        str(hosttools.need("setpriv")), "--pdeathsig", "KILL",
        emulator, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", machine.type, "-cpu", processor, "-smp", str(machine.cpus),
        "-accel", boot.accelerator,
        "-kernel", str(boot.kernel), "-initrd", str(boot.initramfs), "-append", boot.command_line,
        "-drive", f"file={nice_path(boot.image)},if=none,id=root,format=raw,readonly=on,file.locking=off",
        "-device", "virtio-blk-pci,drive=root",
        "-device", "virtio-serial-pci",
    ]  # fmt: skip
    total = sum(part.size for part in ram.parts(machine) if part.id.startswith("node")) >> 20
    slots = f",slots={len(machine.dimms)},maxmem=64G" if machine.dimms else ""
    argv += ["-m", f"{total}M{slots}"]
    for part in ram.parts(machine):
        share = "on" if shared else "off"
        path = folder / part.id
        argv += ["-object",
                 f"memory-backend-file,id={part.id},size={part.size},mem-path={nice_path(path)},share={share}"]  # fmt: skip
    for i in range(len(machine.nodes)):
        cpus = f",cpus=0-{machine.cpus - 1}" if i == 0 else ""
        argv += ["-numa", f"node,nodeid={i},memdev=node{i}{cpus}"]
    for node in sorted({d.node for d in machine.dimms}):
        argv += ["-numa", f"node,nodeid={node}"]
    for i, dimm in enumerate(machine.dimms):
        argv += ["-device", f"pc-dimm,memdev=dimm{i},node={dimm.node}"]
    for device in machine.devices:
        argv += ["-device", device]
    return argv


class Vm:
    """A running QEMU.  Use as a context manager: leaving it kills the process."""

    def __init__(self, argv: Sequence[str], console: Path, *, incoming: bool = False) -> None:
        self.started = time.monotonic()
        pairs = [socket.socketpair() for _ in range(3)]
        theirs = [pair[1] for pair in pairs]
        self.control, self._console, monitor = (pair[0] for pair in pairs)
        for sock in (self.control, self._console):
            sock.setblocking(False)
        whole = [*argv, *_sockets([s.fileno() for s in theirs])]
        if incoming:
            whole += ["-incoming", "defer"]
        self._log = console.open("ab", buffering=0)
        self.console_path = console
        try:
            self._process = subprocess.Popen(
                whole, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=[s.fileno() for s in theirs],
            )  # fmt: skip
        finally:
            for sock in theirs:
                sock.close()
        self._pending = b""
        self._recent = bytearray()
        self._monitor = QEMUMonitorProtocol(monitor)
        self._monitor.settimeout(_MONITOR_SECONDS)
        try:
            self._monitor.connect()
        except (QMPError, OSError, asyncio.TimeoutError) as error:
            self.kill()
            raise HilError(
                f"QEMU did not start: {self.tail(6) or error}",
                f"Its words are at the end of {console}; `hil doctor` checks QEMU.",
            ) from error

    def qmp(self, name: str, **arguments: object) -> Any:
        """Run a monitor command; LostVmError when QEMU is gone or silent."""
        try:
            return self._monitor.cmd(name, **arguments)
        except (QMPError, OSError, asyncio.TimeoutError, EOFError) as error:
            raise LostVmError(f"{name}: {error}") from error

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def send(self, message: dict[str, object]) -> None:
        """Write one line to the guest's port; LostVmError when nobody is there."""
        try:
            self.control.setblocking(True)
            self.control.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LostVmError(str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                self.control.setblocking(False)

    def lines(self, deadline: float) -> Iterator[bytes]:
        """Lines from the guest's port until ``deadline`` (monotonic seconds) or the guest's end.

        The console is logged meanwhile.  A reader that goes on gets a new deadline by calling again.
        """
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                yield line
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
                    yield from self._last_lines()
                    return
            elif not readable and not self.alive:
                yield from self._last_lines()
                return

    def _last_lines(self) -> Iterator[bytes]:
        *whole, self._pending = self._pending.split(b"\n")
        yield from whole

    def _read_console(self) -> None:
        while data := _receive(self._console):
            self._log.write(data)
            self._recent = (self._recent + data)[-65536:]

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
        with contextlib.suppress(Exception):
            self._monitor.close()
        for sock in (self.control, self._console):
            sock.close()
        self._log.close()

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


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
