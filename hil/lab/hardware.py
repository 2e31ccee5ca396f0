# SPDX-License-Identifier: GPL-2.0-or-later
"""A board's machine as QEMU's command line, and its device tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from hil.lab import devicetree, hosttools, ram
from hil.lab.board import Machine, overlay
from hil.lab.qemu_program import Program

# Without highmem all of virt's RAM and BARs lie below 4 GiB, for kernels and devices with 32 bits.
_OPTIONS = {"virt": ",highmem=off,gic-version=2"}


class Boot(NamedTuple):
    """What a guest starts from, whichever way."""

    kernel: Path
    initramfs: Path
    image: Path
    command_line: str
    accelerator: str
    program: Program
    device_tree: Path | None = None


def nice_path(path: Path) -> str:
    """A path as QEMU's option parser wants it: a comma is doubled."""
    return os.fspath(path).replace(",", ",,")


def _plain(machine: Machine) -> bool:
    """A machine without NUMA: one of a kind that has none in most kernels."""
    return machine.type == "virt" and len(machine.nodes) == 1 and not machine.dimms


def _hardware(machine: Machine, program: Program, accelerator: str) -> list[str]:
    """QEMU's command line as far as it says what the machine is made of."""
    processor = machine.cpu_emulated if accelerator.startswith("tcg") else machine.cpu
    total = sum(part.size for part in ram.parts(machine) if part.id.startswith("node")) >> 20
    slots = f",slots={len(machine.dimms)},maxmem=64G" if machine.dimms else ""
    return [
        *program.argv, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-cpu", processor, "-smp", str(machine.cpus), "-m", f"{total}M{slots}",
    ]  # fmt: skip


def device_tree(machine: Machine, program: Program, accelerator: str) -> Path:
    """The machine's device tree with the board's overlay; HilError."""
    kind = machine.type + _OPTIONS.get(machine.type, "")
    command = _hardware(machine, program, accelerator)
    return devicetree.get(command, kind, overlay(machine), program.identity)


def command(machine: Machine, boot: Boot, folder: Path, *, shared: bool) -> list[str]:
    """QEMU's command line but for the sockets.

    ``folder`` holds the RAM files; ``shared`` makes the guest write to them, else it has a private
    copy on write.  No network device, no host file system.
    """
    kind = machine.type + _OPTIONS.get(machine.type, "")
    if _plain(machine):
        kind += ",memory-backend=node0"
    argv = [
        # QEMU dies with us however we die, so that no guest is ever left behind.
        str(hosttools.need("setpriv")), "--pdeathsig", "KILL",
        *_hardware(machine, boot.program, boot.accelerator),
        "-machine", kind, "-accel", boot.accelerator,
        "-kernel", str(boot.kernel), "-initrd", str(boot.initramfs), "-append", boot.command_line,
        "-drive", f"file={nice_path(boot.image)},if=none,id=root,format=raw,readonly=on"
                  ",file.locking=off",
        "-device", "virtio-blk-pci,drive=root",
        "-device", "virtio-serial-pci",
    ]  # fmt: skip
    if boot.device_tree is not None:
        argv += ["-dtb", str(boot.device_tree)]
    for part in ram.parts(machine):
        share = "on" if shared else "off"
        where = f"mem-path={nice_path(folder / part.id)},share={share}"
        argv += ["-object", f"memory-backend-file,id={part.id},size={part.size},{where}"]
    for i in range(0 if _plain(machine) else len(machine.nodes)):
        cpus = f",cpus=0-{machine.cpus - 1}" if i == 0 else ""
        argv += ["-numa", f"node,nodeid={i},memdev=node{i}{cpus}"]
    for node in sorted({d.node for d in machine.dimms}):
        argv += ["-numa", f"node,nodeid={node}"]
    for i, dimm in enumerate(machine.dimms):
        argv += ["-device", f"pc-dimm,memdev=dimm{i},node={dimm.node}"]
    for device in machine.devices:
        argv += ["-device", device]
    return argv
