# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine offers to the makers of memory: directories, a BAR, device-dax."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import NotApplicableError
from hil.memory import bench
from hil.memory.bench import Bench
from hil.uapi import mm


def test_what_a_machine_lacks_comes_with_the_remedy() -> None:
    with pytest.raises(NotApplicableError, match="mount a Btrfs"):
        Bench().directory("btrfs")
    with pytest.raises(ValueError, match="no such kind of directory: 'ntfs'; known: ext4, "):
        Bench.find({"ntfs": Path("/")})


MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
tmpfs /dev/shm tmpfs rw 0 0
tmpfs /mnt/huge tmpfs rw,huge=always 0 0
/dev/pmem0 /mnt/dax\\040one xfs rw,dax=always 0 0
/dev/vdb /mnt/ro btrfs ro 0 0
/dev/vdc /mnt/huge ext4 rw,dax 0 0
proc /proc proc rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp", "ext4"),
        ("/dev/shm/x", "tmpfs"),
        ("/dev/shmx", "ext4"),
        ("/mnt/huge", "fsdax-ext4"),
        ("/mnt/dax one/a", "fsdax-xfs"),
        ("/mnt/ro", None),
        ("/proc", None),
    ],
)
def test_kind_of_a_directory(path: str, kind: str | None) -> None:
    assert bench.kind_of(path, bench.parse_mounts(MOUNTS)) == kind


def test_a_huge_tmpfs_is_one() -> None:
    mounts = [("/t", "tmpfs", "rw,huge=within_size"), ("/n", "tmpfs", "rw,huge=never")]
    assert bench.kind_of("/t", mounts) == "tmpfs-huge"
    assert bench.kind_of("/n", mounts) == "tmpfs"


def device(root: Path, name: str, vendor: str, size: int, *, driver: bool = False) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text("0x1110\n")
    (folder / "resource").write_text(
        f"0x0 0x0 0x0\n0x0 0x0 0x0\n0x80000000 {0x80000000 + size - 1:#x} 0x14220c\n"
    )
    (folder / "resource2").touch()
    if driver:
        (folder / "driver").mkdir()
    return folder / "resource2"


def test_the_bar_is_a_large_one_of_an_idle_device_harmless_if_there_is_one(tmp_path: Path) -> None:
    assert bench._bar(tmp_path) is None
    device(tmp_path, "0000:00:01.0", "0x8086", mm.MIB, driver=True)
    device(tmp_path, "0000:00:02.0", "0x8086", mm.MIB - 1)
    assert bench._bar(tmp_path) is None
    idle = device(tmp_path, "0000:00:03.0", "0x8086", mm.MIB)
    assert bench._bar(tmp_path) == idle
    ivshmem = device(tmp_path, "0000:00:04.0", "0x1af4", mm.MIB)
    assert bench._bar(tmp_path) == ivshmem


def test_device_dax_that_may_hold_data_is_not_taken_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, place in (("dax0.0", "LNXSYSTM:00/ndbus1"), ("dax1.0", "platform/e820_pmem/ndbus0")):
        (tmp_path / place / name).mkdir(parents=True)
        (tmp_path / "devices").mkdir(exist_ok=True)
        (tmp_path / "devices" / name).symlink_to(tmp_path / place / name)
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert bench._devdax(tmp_path / "devices") == Path("/dev/dax1.0")
    named = Bench.find({"device-dax": Path("/dev/dax0.0")})
    assert named.devdax == Path("/dev/dax0.0")
    assert "device-dax" not in named.directories
