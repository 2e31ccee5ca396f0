# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of the virtual lab that runs a program of the test's in place of the suite."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hil.lab import board as boards
from hil.lab import cpio, hardware, kernels, ram
from hil.lab.qemu import Vm
from hil.lab.virtual import VirtualBoard

_LAB = Path(hardware.__file__).parent / "guest"
_ENTER = "exec $b chroot /new /bin/busybox sh /opt/hil/hil/lab/guest/start.sh\n"
_SUITE = "ready &\n"
_ENTER_OURS = (
    "$b mkdir -p /new/own\n$b mount --bind /own /new/own\n"
    "exec $b chroot /new /bin/busybox sh /own/start.sh\n"
)
_RUN = """\
ready
# As where cells run: under TCG code that is patched across CPUs may take the guest down.
for file in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 0 >"$file"; done
cd /opt/hil
export PYTHONPATH=/opt/hil:/opt/site-packages PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
python3.11 -B -S /own/program.py >/dev/virtio-ports/org.hil.control
echo '{"event": "exit"}' >/dev/virtio-ports/org.hil.control
$b sleep 1
$b poweroff -f
"""


def run_inside(
    program: Path,
    kernel: str,
    folder: Path,
    seconds: float = 240,
    files: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Boot a guest cold and run ``program`` in it: the JSON objects that it prints, as one.

    ``folder`` is an empty one for the guest's memory and console; ``files`` are executable, in
    /own.
    """
    board = boards.load("virtual-x86")
    virtual = VirtualBoard(board, kernels.get(kernel, say=lambda *_: None), cold=True)
    start, init = (_LAB / "start.sh").read_text(), (_LAB / "init.sh").read_text()
    assert _ENTER in init and _SUITE in start, "init.sh and start.sh have changed: follow them"
    own = {
        "init": (0o755, init.replace(_ENTER, _ENTER_OURS).encode()),
        "own/start.sh": (0o644, (start.partition(_SUITE)[0] + _RUN).encode()),
        "own/program.py": (0o644, program.read_bytes()),
        **{f"own/{name}": (0o755, data) for name, data in (files or {}).items()},
    }
    cpio.pack(own, folder / "own")
    initramfs, memory = folder / "initramfs", folder / "ram"
    initramfs.write_bytes(virtual.boot.initramfs.read_bytes() + (folder / "own").read_bytes())
    memory.mkdir()
    ram.prepare(memory, virtual.machine, virtual.root)
    boot = virtual.boot._replace(initramfs=initramfs)
    found: dict[str, Any] = {}
    command = hardware.command(virtual.machine, boot, memory, shared=True)
    with Vm(command, folder / "console.log") as vm:
        for line in vm.lines(time.monotonic() + seconds):
            message = json.loads(line)
            if message.get("event") == "exit":
                break
            found |= message
        assert found, vm.tail(40)
    return found
