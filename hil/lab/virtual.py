# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual board: boots a kernel to the point where the suite waits for its orders."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from hil.errors import HilError, NotCompletedError
from hil.lab import (
    cache,
    corrections,
    drivers,
    emulator,
    exchange,
    hardware,
    holding,
    initramfs,
    kvm,
    qemu_program,
    ram,
    rootfs,
    silicon,
    snapshot,
    vmlinux,
)
from hil.lab.architectures import ARCHITECTURES
from hil.lab.board import Board
from hil.lab.hardware import Boot
from hil.lab.holding import Holds
from hil.lab.kernels import Kernel
from hil.lab.modules import Own, check_own
from hil.lab.progress import Say, quiet
from hil.lab.qemu import LostVmError, Vm, patient_line
from hil.lab.running import Guest

BOOT_SECONDS = 120.0
_PREPARE_SECONDS = 40.0
_LAST_WORDS = 0.5
_TCG = "tcg,thread=multi"
SNAPSHOT_SIZE = 700_000_000
"""Bytes that a snapshot takes, with some to spare."""
_PLUGINS_LEFT_OUT = (
    "cacheprovider", "debugging", "doctest", "faulthandler", "junitxml", "legacypath", "logging",
    "pastebin", "setuponly", "setupplan", "stepwise", "subtests", "threadexception", "unittest",
    "unraisableexception",
)  # fmt: skip
_ARGUMENTS = (
    "-q", "--no-header", "--no-summary", "--tb=short", "--assert=plain", "--capture=no",
    # Nobody reads what these bring, and importing them costs.
    *(part for name in _PLUGINS_LEFT_OUT for part in ("-p", f"no:{name}")),
    "-p", "fixtures.hw", "-p", "fixtures.guest",
    "--rootdir=/opt/hil", "--board=/hil/board.toml", "tests/hw",
)  # fmt: skip


class VirtualBoard:
    """A board file, a kernel and the user's own modules, ready to be started again and again."""

    def __init__(
        self,
        board: Board,
        kernel: Kernel,
        own_modules: Sequence[Path] = (),
        *,
        cold: bool = False,
        marks: str = "hw",
        qemu_from: str = "host",
        say: Say = quiet,
    ) -> None:
        """``marks`` is what a cold guest is asked to collect; a snapshot always holds all cells.

        ``qemu_from`` is one of qemu_program.SOURCES.
        """
        assert board.machine is not None
        self.board, self.machine, self.kernel = board, board.machine, kernel
        self._holds = Holds()
        holding.use()
        program = qemu_program.get(qemu_from, self.machine.arch, say)
        self.qemu = program.version
        self.transports: list[str] = []
        """How each device model of the board reaches its guest."""
        if self.machine.silicon:
            known = qemu_program.devices(program, silicon.PCI_DEVICES)
            self.transports = silicon.check(self.machine, known, self.qemu)
        # QEMU can't save what a model holds; one with registers in RAM holds nothing between jobs.
        self.cold = cold = cold or any(how != "registers" for how in self.transports)
        self.built = drivers.get(
            [drivers.load(name) for name in board.guest.build], kernel,
            unmodified=board.guest.unmodified, say=say,
        )  # fmt: skip
        """Drivers that were built for this kernel."""
        users = [check_own(path, kernel) for path in own_modules]
        taken = {module.name for module in users}
        ours = [check_own(b.file, kernel) for b in self.built if b.name not in taken]
        self.own: list[Own] = [*ours, *users]
        self.exchanged: list[Own] = []
        """Builds that each guest loads in place of what it came up with."""
        works, why = kvm.kvm_works()
        if not ARCHITECTURES[self.machine.arch].native:
            works, why = False, f"this machine runs no {self.machine.arch}"
        self.emulated = not works
        self.acceleration = "KVM" if works else f"TCG, as KVM does not serve: {why}"
        self._say = say
        self._lock = threading.RLock()
        self._starting: set[Vm] = set()
        self._starting_lock = threading.Lock()
        self._stopped = False
        self.root = rootfs.get(self.machine.arch, board.guest.packages)
        self.corrected = corrections.of(kernel, board.guest.drivers, self.own)
        """Stock modules in whose place this board has a copy without a known mistake."""
        arguments = ["-m", marks if cold else "hw", *_ARGUMENTS]
        self.boot = Boot(
            kernel=vmlinux.get(kernel),
            initramfs=initramfs.get(
                board, kernel, self.root, self.own, arguments, corrected=self.corrected
            ),
            image=self.root.image,
            command_line=self._command_line(),
            accelerator=_TCG if self.emulated else "kvm",
            program=program,
            device_tree=self._device_tree(program),
        )
        for part in (self.boot.kernel, self.boot.initramfs, self.boot.image, kernel.place):
            self._holds.add(part)
        self.key = self._key()

    def _key(self) -> str:
        """What the snapshot goes by."""
        return snapshot.key(
            {
                "kernel": self.kernel.identity,
                "initramfs": self.boot.initramfs.name,
                "image": self.root.identity,
                "machine": repr(self.machine),
                "command line": self.boot.command_line,
                "qemu": [self.qemu, *self.boot.program.identity],
                "device tree": self.boot.device_tree,
                "accelerator": self.boot.accelerator,
                "processor": kvm.processor(),
            }
        )

    def without_kvm(self, why: str) -> None:
        """Go on emulated: KVM has failed a guest."""
        with self._lock:
            if self.emulated:
                return
            self.emulated, self.acceleration = True, f"TCG, as KVM does not serve: {why}"
            self.boot = self.boot._replace(accelerator=_TCG)
            self.key = self._key()
        self._say(f"{why}: once more, emulated")

    def start(self, console: Path) -> Guest:
        """A guest that waits for its orders: from the snapshot, or booted.

        HilError when it does not come up; its console is in the message.
        """
        ram.clean()
        guest = self._started(console)
        try:
            if self.exchanged:
                again = exchange.affected(self.board, self.kernel, self.own, self.exchanged)
                exchange.order(guest.vm, self.exchanged, again)
        except BaseException:
            guest.close()
            raise
        finally:
            with self._starting_lock:
                self._starting.discard(guest.vm)
        return guest

    def close(self) -> None:
        """What it was made of, and the snapshot, may be removed from the cache now."""
        self._holds.close()

    def stop(self) -> None:
        """Let guests that are being started come to nothing; from another thread."""
        with self._starting_lock:
            self._stopped = True
            for vm in self._starting:
                vm.terminate()

    def _started(self, console: Path) -> Guest:
        try:
            if not self.cold:
                with self._lock:
                    return self._from_snapshot(console)
            guest = self._boot(console, ram.folder())
        except _KvmError as error:
            self.without_kvm(kvm.distrust(error.message))
            return self._started(console)
        try:
            self._prepare(guest.vm)
        except LostVmError as error:
            guest.close()
            raise NotCompletedError(str(error), f"Its console is in {console}.") from error
        except BaseException:
            guest.close()
            raise
        return guest

    def _launched(self, vm: Vm) -> Vm:
        """Remember a QEMU that `stop` is to end."""
        with self._starting_lock:
            self._starting.add(vm)
            if self._stopped:
                vm.terminate()
        return vm

    def _ended(self, vm: Vm | None, models: silicon.Models | None) -> None:
        """End a guest that did not come up."""
        if vm is not None:
            vm.kill()
            with self._starting_lock:
                self._starting.discard(vm)
        if models is not None:
            models.close()

    def _go_on(self) -> None:
        if self._stopped:
            raise NotCompletedError("the run was ended while a guest was being started")

    def _from_snapshot(self, console: Path) -> Guest:
        """Restore the snapshot, made first where there is none that can be used."""
        found = snapshot.find(self.key)
        if found is not None:
            with contextlib.suppress(LostVmError, HilError):
                self._holds.add(found.folder)
                return self._restore(found, console)
            self._go_on()
            self._drop(found)
        with cache.lock(f"snapshot-{self.key}"):
            if found is None and (found := snapshot.find(self.key)) is not None:
                self._holds.add(found.folder)  # another run has made it meanwhile
                return self._restore(found, console)
            return self._snapshotted(console)

    def _snapshotted(self, console: Path) -> Guest:
        """Boot, save a snapshot, and restore it."""
        self._say("booting the guest, for a snapshot that the next run starts from")
        cache.need_space(cache.root(), SNAPSHOT_SIZE, "a snapshot of the guest")
        folder = snapshot.workplace(self.key)
        guest = self._boot(console, folder)
        said = {"cells": guest.cells, "slow": sorted(guest.slow), "suite": guest.suite,
                "destructive": sorted(guest.destructive), "uptimes": guest.uptimes}  # fmt: skip
        try:
            self._prepare(guest.vm)
            made = snapshot.save(guest.vm, folder, self.key, said, self._holds)
            if guest.models is not None:
                guest.models.close()
            return self._restore(made, console)
        except LostVmError as error:
            guest.close()
            self._go_on()
            self._say(f"no snapshot: {error}; booting cold")
            self.cold = True
            return self._started(console)
        except BaseException:
            guest.close()
            raise

    def distrust(self) -> None:
        """A guest of the snapshot came to nothing: the next one is booted."""
        with self._lock:
            found = None if self.cold else snapshot.find(self.key)
            if found is not None:
                self._drop(found)

    def _drop(self, found: snapshot.Snapshot) -> None:
        self._holds.drop(found.folder)
        snapshot.drop(found)

    def _boot(self, console: Path, folder: Path) -> Guest:
        """Boot on RAM files in ``folder``; once more when the emulator was at fault."""
        try:
            return self._boot_once(console, folder)
        except _EmulatorError as error:
            self._say(f"the guest went down of {error} while it booted: once more")
        folder.mkdir(exist_ok=True)
        return self._boot_once(console, folder, last=True)

    def _boot_once(self, console: Path, folder: Path, *, last: bool = False) -> Guest:
        vm = models = None
        try:
            with cache.full_disk_is_an_error(folder, "the guest's memory"):
                ram.prepare(folder, self.machine, self.root)
            argv = hardware.command(self.machine, self.boot, folder, shared=True)
            if self.transports:
                models = silicon.Models(self.machine, self.transports, folder, console)
            vm = self._launched(_launch(argv, console, models))
            line = patient_line(vm, BOOT_SECONDS)
            message = json.loads(line) if line else {}
            if message.get("event") == "collected":
                return Guest(vm, message, "cold", folder, models)
            if models is not None:
                models.raise_failure()
            if not self.emulated and vm.failed():
                raise _KvmError("/dev/kvm is there, but a kernel does not run: internal error")
            if vm.end() == -signal.SIGBUS:  # no page for what the guest wrote
                raise cache.no_space(folder, "the guest's memory")
            vm.listen(_LAST_WORDS)
            fault = emulator.fault(vm.tail(200).splitlines()) if self.emulated else ""
            if fault and not last:
                raise _EmulatorError(fault)
            raise NotCompletedError(
                f"the guest with {self.kernel.release} did not come up; its console ends:\n"
                + vm.tail(25),
                f"The whole console is in {console}.",
            )
        except BaseException:
            self._ended(vm, models)
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _prepare(self, vm: Vm) -> None:
        """Bring the guest to the state that cells are to find; LostVmError."""
        vm.send({"cpus": self.machine.cpus_for_cells, "learn": not self.cold})
        line = patient_line(vm, _PREPARE_SECONDS)
        if line and json.loads(line).get("event") == "prepared":
            return
        raise LostVmError("the guest did not take its CPUs offline")

    def _restore(self, found: snapshot.Snapshot, console: Path) -> Guest:
        folder = vm = models = None
        try:
            if self.transports:
                # Models reach the RAM through files: this guest gets its own, and shares them.
                folder = ram.folder()
                with cache.full_disk_is_an_error(folder, "the guest's memory"):
                    ram.copy(found.folder, folder, self.machine)
                models = silicon.Models(self.machine, self.transports, folder, console)
            place, shared = folder or found.folder, folder is not None
            argv = hardware.command(self.machine, self.boot, place, shared=shared)
            vm = self._launched(_launch(argv, console, models, incoming=True))
            snapshot.restore(vm, found)
        except BaseException:
            self._ended(vm, models)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return Guest(vm, found.said, "snapshot", folder, models)

    def _device_tree(self, program: qemu_program.Program) -> Path | None:
        if not self.machine.device_tree:
            return None
        return hardware.device_tree(self.machine, program, _TCG if self.emulated else "kvm")

    def _command_line(self) -> str:
        console = ARCHITECTURES[self.machine.arch].console
        own = f"console={console} panic=-1 oops=panic softlockup_panic=1"
        return f"{own} {self.machine.command_line} {ram.command_line(self.machine)}"


def _launch(
    argv: Sequence[str], console: Path, models: silicon.Models | None, *, incoming: bool = False
) -> Vm:
    """QEMU, with its device models beside it; ModelError when one of them fails as it starts."""
    if models is None:
        return Vm(argv, console, incoming=incoming)
    try:
        vm = Vm(
            [*argv, *models.arguments], console,
            incoming=incoming, fds=models.fds, started=models.handed_over,
        )  # fmt: skip
    except HilError:
        models.raise_failure()
        raise
    models.watch(vm.terminate)
    return vm


class _KvmError(NotCompletedError):
    """KVM failed a guest that boots."""


class _EmulatorError(Exception):
    """The emulator failed a guest that boots; the text says how."""
