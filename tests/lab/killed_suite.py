# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a guest: kills the suite in the middle of a cell and looks at the machine afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_controls as controls

SWITCHES = (
    "/proc/sys/vm/nr_hugepages",
    "/proc/sys/kernel/numa_balancing",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/ksm/pages_to_scan",
    "/sys/kernel/mm/ksm/sleep_millisecs",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan",
    "/sys/fs/cgroup/cgroup.subtree_control",
    "/proc/swaps",
    "/proc/mounts",
)


def state() -> dict[str, object]:
    """All that the suite may change, in words."""
    found: dict[str, object] = {path: Path(path).read_text() for path in SWITCHES}
    found["/proc/swaps"] = [line.split()[0] for line in str(found["/proc/swaps"]).splitlines()]
    found["groups"] = sorted(p.name for p in Path("/sys/fs/cgroup").glob("hil-*"))
    found["files"] = sorted(os.listdir("/mnt/ext4"))  # noqa: PTH208
    for node, kind in (("video0", 1), ("video1", 2), ("video4", 9), ("video5", 10)):
        fd = os.open(f"/dev/{node}", os.O_RDWR | os.O_NONBLOCK)
        try:
            found[f"{node} format"] = bytes(uapi.get_format(fd, kind)).hex()
            if kind in (1, 9):
                found[f"{node} input"] = controls.get_input(fd)
                for name, identity in controls.controls(fd).items():
                    if name in ("Test Pattern", "OSD Text Mode") or "Connected" in name:
                        found[f"{node} {name}"] = controls.get_control(fd, identity)
        finally:
            os.close(fd)
    return found


def main() -> None:
    Path("/run/hil/ready").touch()
    before = state()
    suite = subprocess.Popen(
        [sys.executable, "-B", "-S", "-m", "pytest", "-q", "-m", "hw", "-p", "fixtures.hw",
         "--capture=no", "--rootdir=/opt/hil", "--board=/hil/board.toml", "--journal=/tmp/journal",
         "-k", "video0/ and (anonymous/ or thp/ or memfd/ or tmpfs/) and "
         "(swapoff or cgroup-high or steady)",
         "tests/hw"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 120
    killed_in = "nowhere"
    while time.monotonic() < until and suite.poll() is None:
        # Not in the first memory class: the control group is there after that.  Swap is on for
        # some hundredths of a second, which may be missed: there are four chances.
        swaps = Path("/proc/swaps").read_text()
        if "hil-swap" in swaps and any(Path("/sys/fs/cgroup").glob("hil-*")):
            os.kill(suite.pid, signal.SIGKILL)
            killed_in = "swapoff"
            break
        time.sleep(0.0005)
    status = suite.wait()
    middle = Path("/tmp/journal").read_text().splitlines()
    until = time.monotonic() + 20
    while (after := state()) != before and time.monotonic() < until:
        time.sleep(0.1)
    differs = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
    answer = {"killed_in": killed_in, "status": status, "cells": len(middle), "differs": differs}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
