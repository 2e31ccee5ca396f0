# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of the virtual lab that runs other programs in place of the suite.

Kernel, command line, modules, file systems and memory are those of the suite's guest.  A second
archive behind the initramfs replaces /init: it enters the same image, readies the machine with the
lab's own script, and runs ours where the suite would run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cpio, hardware, hosttools, packages, ram, rootfs
from hil.lab.qemu import Vm
from hil.lab.virtual import VirtualBoard

HERE = Path(__file__).parent
_LAB = Path(hardware.__file__).parent / "guest"
_ENTER = "exec $b chroot /new /bin/busybox sh /opt/hil/hil/lab/guest/start.sh\n"
_SUITE = "ready &\n"
_SECONDS = 400.0

_OWN = """\
ready
mkdir -p /run/tools
mount -t squashfs -o ro /dev/vdb /run/tools
for d in proc sys dev tmp; do mount --bind /$d /run/tools/$d; done
for file in /sys/devices/system/cpu/cpu*/online; do
	n=${file%/online}
	[ "${n##*cpu}" -lt "$CPUS" ] || echo 0 >"$file"
done
port=/dev/virtio-ports/org.hil.control
{
	for i in $($b seq $RUNS); do echo "cell $(/bench/cell $NODE $TURNS 2>&1)"; done
	for i in $($b seq $RUNS); do echo "bare $(/bench/cell $NODE $TURNS bare 2>&1)"; done
	for i in $($b seq $COMPLIANCE); do
		read -r before rest </proc/uptime
		chroot /run/tools /usr/bin/v4l2-compliance -s 5 -d $NODE >/tmp/compliance 2>&1
		read -r after rest </proc/uptime
		echo "compliance $before $after $($b tail -n 1 /tmp/compliance)"
	done
	echo end
} >$port
$b sleep 1
$b poweroff -f
"""


class Yardstick(NamedTuple):
    """What the other programs took."""

    cell: list[list[float]]
    """Microseconds a turn, of each run."""
    bare: list[list[float]]
    compliance: list[float]
    """Seconds of each v4l2-compliance -s 5."""
    verdict: str
    """Its last line."""


def compile_cell(target: Path) -> None:
    """cell.c as a static program; HilError where there is no compiler."""
    compiler = hosttools.need("gcc", "It is in the package gcc.")
    command: list[str | Path] = [compiler, "-O2", "-Wall", "-static", "-o", target, HERE / "cell.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HilError(f"cell.c does not compile: {done.stderr[-600:]}")


def measure(
    virtual: VirtualBoard, folder: Path, node: str, turns: int, runs: int, *, compliance: bool
) -> Yardstick:
    """Boot the guest cold in ``folder``, an empty one, and run the other programs in it.

    The C program ``turns`` times in each of ``runs``, and v4l2-compliance where it is asked for.
    """
    initramfs, tools = folder / "initramfs", folder / "tools.squashfs"
    compile_cell(folder / "cell")
    start = (_LAB / "start.sh").read_text()
    init = (_LAB / "init.sh").read_text()
    if _ENTER not in init or _SUITE not in start:
        raise RuntimeError("init.sh and start.sh have changed: bench/guest.py must follow")
    values = f"NODE={node} TURNS={turns} RUNS={runs} COMPLIANCE={runs if compliance else 0}\n"
    values += f"CPUS={virtual.machine.cpus_for_cells}\n"  # as many as the cells have
    ours = start.partition(_SUITE)[0] + values + _OWN
    cpio.pack(
        {
            "init": (0o755, init.replace(_ENTER, _enter()).encode()),
            "bench/start.sh": (0o644, ours.encode()),
            "bench/cell": (0o755, (folder / "cell").read_bytes()),
        },
        folder / "more",
    )
    with initramfs.open("wb") as out:
        for part in (virtual.boot.initramfs, folder / "more"):
            out.write(part.read_bytes())
    closure = packages.closure(rootfs.SUITE, ["v4l-utils"])
    tree = folder / "tools"
    shutil.copytree(closure.folder, tree, symlinks=True)
    for name in ("proc", "sys", "dev", "tmp"):
        (tree / name).mkdir(exist_ok=True)
    hosttools.run(["mksquashfs", tree, tools, "-noappend", "-quiet", "-comp", "lz4",
                   "-no-progress"])  # fmt: skip
    memory = folder / "ram"
    memory.mkdir()
    try:
        ram.prepare(memory, virtual.machine, virtual.root)
        boot = virtual.boot._replace(initramfs=initramfs)
        argv = [
            *hardware.command(virtual.machine, boot, memory, shared=True),
            "-drive", f"file={tools},if=none,id=tools,format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=tools",
        ]  # fmt: skip
        with Vm(argv, folder / "console.log") as vm:
            return _listen(vm)
    finally:
        shutil.rmtree(memory, ignore_errors=True)


def _enter() -> str:
    return (
        "$b mkdir -p /new/bench\n$b mount --bind /bench /new/bench\n"
        "exec $b chroot /new /bin/busybox sh /bench/start.sh\n"
    )


def _listen(vm: Vm) -> Yardstick:
    found = Yardstick([], [], [], "")
    for line in vm.lines(time.monotonic() + _SECONDS):
        word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
        if word in ("cell", "bare"):
            try:
                values = [float(value) for value in rest.split()]
            except ValueError:
                raise RuntimeError(f"bench/cell.c in the guest: {rest}") from None
            (found.cell if word == "cell" else found.bare).append(values)
        elif word == "compliance":
            before, after, verdict = rest.split(" ", 2)
            found.compliance.append(float(after) - float(before))
            found = found._replace(verdict=verdict)
        elif word == "end":
            return found
    raise RuntimeError(f"the guest for comparison ended early: {json.dumps(vm.tail(15))}")
