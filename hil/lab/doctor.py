# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine can do for the tests: each thing that is lacking comes with its remedy."""

from __future__ import annotations

import enum
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hil.errors import HilError
from hil.lab import archive, cache, catalogue, hosttools, kvm, qemu_program, silicon
from hil.lab.kvm import kvm_works, processor

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Check", "Status", "checks", "kvm_works", "processor", "report"]

GUEST_MEMORY = 4 << 30  # bytes of RAM of the virtual board
_DISK = 2_000_000_000  # bytes: lists 0.25 GB, a kernel 0.3 GB unpacked, image, snapshot, results
_HUGE = {2048: "2 MiB", 1048576: "1 GiB"}


class Status(enum.Enum):
    """``LACK``: something does not work without it.  ``NOTE``: worth knowing."""

    OK = "ok"
    LACK = "lack"
    NOTE = "note"


class Check(NamedTuple):
    """One thing looked at."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def checks() -> list[Check]:
    """Look at this machine; nothing is changed, and the network is not used."""
    found: list[Check] = []
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        _qemu, _kvm, _tools, _python, _memory, _cores, _disk, _kernels, _devices, _huge_pages,
        _rights,
    )  # fmt: skip
    for look in looks:
        found.extend(look())
    return found


def report(console: Console) -> int:
    """Print the checks as a table; 2 when something is lacking, else 0."""
    from rich.markup import escape
    from rich.table import Table

    found = checks()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "what", "found", "remedy"):
        table.add_column(title, overflow="fold")
    style = {Status.OK: "green", Status.LACK: "bold red", Status.NOTE: "yellow"}
    for check in found:
        mark = f"[{style[check.status]}]{check.status.value}[/]"
        table.add_row(mark, check.name, escape(check.found), escape(check.remedy))
    console.print(table)
    lacking = [check.name for check in found if check.status is Status.LACK]
    if lacking:
        console.print(f"[bold red]lacking:[/] {', '.join(lacking)}")
        return 2
    console.print("[green]This machine can run the virtual board.[/]")
    return 0


def _qemu() -> Iterator[Check]:
    path = hosttools.find("qemu-system-x86_64")
    if path is None:
        yield Check(
            "QEMU", Status.LACK, "qemu-system-x86_64 is missing", "apt-get install qemu-system-x86"
        )
        return
    try:
        words = hosttools.run([path, "--version"], timeout=20).decode().split()
        version = words[words.index("version") + 1]
    except (hosttools.ToolError, OSError, ValueError, IndexError) as error:
        yield Check("QEMU", Status.LACK, f"{path} does not run: {error}", "Install it again.")
        return
    old = int(version.split(".")[0]) < 7
    status = Status.NOTE if old else Status.OK
    remedy = "The virtual board was tried with 7.2 and later." if old else ""
    yield Check("QEMU", status, f"{version} ({path})", remedy)
    yield _device_models()


def _device_models() -> Check:
    """Whether a PCI device model can stand behind this QEMU, or one of the archive."""
    name = "device models"
    fetched = qemu_program.in_cache()
    more = f"; QEMU {fetched} of the archive is in the cache" if fetched else ""
    try:
        there = qemu_program.devices(qemu_program.get("host"), silicon.PCI_DEVICES)
    except (HilError, hosttools.ToolError) as error:
        return Check(name, Status.NOTE, f"QEMU does not tell its devices: {error}")
    found = [device for device in silicon.PCI_DEVICES if device in there]
    if found:
        return Check(name, Status.OK, f"QEMU has {', '.join(found)}{more}")
    return Check(
        name,
        Status.NOTE,
        f"QEMU has none of {', '.join(silicon.PCI_DEVICES)}{more}",
        "hil run --qemu archive takes a newer QEMU into the cache (35 MB) and installs nothing.",
    )


def _kvm() -> Iterator[Check]:
    works, why = kvm.kvm_works()
    if works:
        yield Check("KVM", Status.OK, why)
    else:
        remedy = "Guests are emulated (TCG): slower, with the same verdicts."
        yield Check("KVM", Status.NOTE, why, remedy)


def _tools() -> Iterator[Check]:
    for name in hosttools.NEEDED[1:]:
        path = hosttools.find(name)
        if path:
            yield Check(name, Status.OK, str(path))
        else:
            remedy = f"apt-get install {hosttools.PACKAGES.get(name, name)}"
            yield Check(name, Status.LACK, "missing", remedy)
    if hosttools.find("apt-get"):
        yield Check("apt", Status.OK, "fetches stock kernels and the guest's packages")
    else:
        remedy = "Local kernels work: --kernel deb:FILE[,FILE] or --kernel dir:PATH."
        yield Check("apt", Status.NOTE, "missing", remedy)
    if not hosttools.find("gcc"):
        remedy = "apt-get install gcc libc6-dev, for the test that compares structure sizes."
        yield Check("gcc", Status.NOTE, "missing", remedy)


def _python() -> Iterator[Check]:
    yield Check("Python", Status.OK, f"{sys.version.split()[0]} ({sys.executable})")


def available_memory() -> int:
    """Bytes that a guest could take: MemAvailable, or what the control group leaves."""
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return available
    return min(available, int(limit) - used) if limit.isdigit() else available


def _memory() -> Iterator[Check]:
    available = available_memory()
    need = GUEST_MEMORY + (512 << 20)
    text = f"{available / (1 << 30):.1f} GiB free"
    if available >= need:
        yield Check("memory", Status.OK, text)
    else:
        remedy = f"The virtual board takes {need / (1 << 30):.1f} GiB: end other programs."
        yield Check("memory", Status.LACK, text, remedy)


def _cores() -> Iterator[Check]:
    count = len(os.sched_getaffinity(0))
    status = Status.OK if count > 1 else Status.NOTE
    yield Check("cores", status, str(count), "" if count > 1 else "It serves; runs take longer.")


def _disk() -> Iterator[Check]:
    folder = cache.root()
    left = cache.free(folder)
    used = sum(p.lstat().st_blocks * 512 for p in folder.rglob("*"))
    text = f"{cache.megabytes(left)} free at {folder}, which holds {cache.megabytes(used)}"
    if left >= _DISK:
        yield Check("disk", Status.OK, text)
    else:
        status = Status.LACK if left < _DISK // 2 and not used else Status.NOTE
        remedy = f"A first run needs {cache.megabytes(_DISK)}; set XDG_CACHE_HOME to a larger disk."
        yield Check("disk", status, text, remedy)


def _kernels() -> Iterator[Check]:
    made, builds = catalogue.load("amd64")
    releases = sorted(
        {p.name.partition("_")[0] for p in (cache.root() / "kernels" / "amd64").glob("[0-9]*_*")}
    )
    text = f"cached: {', '.join(releases)}" if releases else "none cached"
    if made:
        hours = (time.time() - made) / 3600
        text += f"; {len(builds)} known in the archive, lists {hours:.0f} h old"
    yield Check(
        "kernels",
        Status.OK if releases else Status.NOTE,
        text,
        "" if releases else "The first run fetches one, or: hil kernels get debian:6.12",
    )
    if hosttools.find("apt-config"):
        try:
            found = archive.mirror()
        except HilError as error:
            yield Check("mirror", Status.NOTE, error.message, error.hint)
        else:
            extra = "" if found.security else ", without security updates"
            yield Check("mirror", Status.OK, found.main.uri + extra)


def _devices() -> Iterator[Check]:
    kinds = (
        ("video nodes", "/sys/class/video4linux", "dev"),
        ("DRM nodes", "/sys/class/drm", "dev"),
        ("accelerators", "/sys/class/accel", "dev"),
    )
    for title, folder, marker in kinds:
        names = []
        root = Path(folder)
        for node in sorted(root.iterdir()) if root.is_dir() else []:
            if (node / marker).exists():
                driver = node / "device" / "driver"
                by = f" ({driver.resolve().name})" if driver.exists() else ""
                names.append(f"{node.name}{by}")
        yield Check(
            title,
            Status.OK if names else Status.NOTE,
            ", ".join(names) or "none",
            "" if names else "Not needed: the virtual board brings its own.",
        )


def _huge_pages() -> Iterator[Check]:
    for size, name in _HUGE.items():
        folder = Path(f"/sys/kernel/mm/hugepages/hugepages-{size}kB")
        try:
            total = int((folder / "nr_hugepages").read_text())
            free = int((folder / "free_hugepages").read_text())
        except (OSError, ValueError):
            yield Check(
                f"{name} pages",
                Status.NOTE,
                "not offered by this kernel",
                "Only runs on this machine's own devices miss them.",
            )
            continue
        if total:
            yield Check(f"{name} pages", Status.OK, f"{free} of {total} free")
        else:
            remedy = f"For runs on this machine's own devices: echo 4 > {folder}/nr_hugepages"
            yield Check(f"{name} pages", Status.NOTE, "none reserved", remedy)


def _rights() -> Iterator[Check]:
    if os.geteuid() == 0:
        yield Check("rights", Status.OK, "root")
    else:
        remedy = "The virtual board needs none; runs on this machine's own devices need root."
        yield Check("rights", Status.NOTE, "not root", remedy)
