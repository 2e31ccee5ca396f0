# SPDX-License-Identifier: GPL-2.0-or-later
"""What to load in which order, and a developer's own module against a kernel."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from kernel_parts import RELEASE, VERMAGIC, fill, module

from hil.errors import HilError
from hil.lab import hosttools, modules
from hil.lab.kernels import Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    folder = fill(
        tmp_path / "lib/modules" / RELEASE,
        {
            "kernel/mc.ko.xz": lzma.compress(module("mc")),
            "kernel/video-dev.ko.xz": lzma.compress(module("video_dev", depends="mc")),
            "kernel/vivid.ko.xz": lzma.compress(module("vivid", depends="video_dev,mc")),
            "modules.dep": b"kernel/mc.ko.xz:\nkernel/video-dev.ko.xz: kernel/mc.ko.xz\n"
            b"kernel/vivid.ko.xz: kernel/video-dev.ko.xz kernel/mc.ko.xz\n"
            b"kernel/ext4.ko.xz: kernel/jbd2.ko.xz\nkernel/jbd2.ko.xz:\n"
            b"kernel/crc32c_intel.ko.xz:\nkernel/crc32c_generic.ko.xz:\nkernel/late.ko.xz:\n"
            b"kernel/sha256_ssse3.ko.xz:\n",
            "modules.softdep": b"# comment\nsoftdep ext4 pre: crypto-crc32c crypto-sha256 gone "
            b"post: late\n",
            "modules.alias": b"alias crypto-crc32c crc32c_intel\n"
            b"alias crypto-crc32c crc32c_generic\nalias fs-ext4 ext4\nalias pci:v*d* vivid\n"
            b"alias crypto-sha256 sha256_ssse3\n",
            "modules.builtin": b"kernel/virtio_pci.ko\n",
            "modules.builtin.modinfo": b"sha256_generic.alias=crypto-sha256\0x.license=GPL\0",
        },
    )
    return Kernel(
        "dir:x", RELEASE, "6.12.117", "amd64", tmp_path / "vmlinuz", folder, None, None, "id", ""
    )


def test_load_order_puts_what_is_needed_first(kernel: Kernel) -> None:
    found = modules.closure(kernel, ["vivid", "mc"])
    assert found.names == ["mc", "video_dev", "vivid"]
    assert [file.name for file in found.files] == ["mc.ko.xz", "video-dev.ko.xz", "vivid.ko.xz"]


def test_soft_dependencies_come_through_aliases(kernel: Kernel) -> None:
    # crc32c: the generic one; sha256: built in, so no module for it
    names = modules.closure(kernel, ["ext4"]).names
    assert names == ["jbd2", "crc32c_generic", "ext4", "late"]


def test_built_in_and_absent_modules_are_reported(kernel: Kernel) -> None:
    found = modules.closure(kernel, ["virtio-pci", "fs-ext4", "nope", "video-dev"])
    assert found.built_in == ["virtio-pci"]
    assert found.absent == ["nope"]
    assert "ext4" in found.names and "video_dev" in found.names


def test_a_kernel_without_an_index_is_an_error(kernel: Kernel) -> None:
    (kernel.modules / "modules.dep").unlink()
    with pytest.raises(HilError, match="no module index"):
        modules.closure(kernel, ["vivid"])


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
def test_modules_are_read_whatever_packs_them(tmp_path: Path, suffix: str) -> None:
    data = module("vivid")
    file = tmp_path / f"vivid.ko{suffix}"
    if suffix == ".zst":
        if not hosttools.find("zstd"):
            pytest.skip("needs zstd")
        file.write_bytes(hosttools.run(["zstd", "-c"], data=data))
    else:
        pack = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress}[suffix]
        file.write_bytes(pack(data))
    assert modules.read(file) == data
    if suffix:
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(HilError, match="cannot read the module"):
            modules.read(file)


def test_modinfo_of_a_module() -> None:
    info = modules.modinfo(module("vivid", depends="mc", extra="alias=a|alias=b"))
    assert info["name"] == ["vivid"]
    assert info["vermagic"] == [VERMAGIC]
    assert info["alias"] == ["a", "b"]


@pytest.mark.parametrize("keep", [0, 3, 60, 200])
def test_modinfo_of_a_torn_file(keep: int) -> None:
    with pytest.raises(HilError, match=r"truncated or no ELF file"):
        modules.modinfo(module("vivid")[:keep])


def test_an_own_module_takes_the_place_of_the_stock_one(kernel: Kernel, tmp_path: Path) -> None:
    file = tmp_path / "my-vivid.ko"
    file.write_bytes(module("vivid", depends="video_dev,mc", extra="author=me"))
    own = modules.check_own(file, kernel)
    assert own.name == "vivid"
    assert own.replaces == kernel.modules / "kernel/vivid.ko.xz"
    assert own.needs == ["video_dev", "mc"]
    (tmp_path / "new.ko").write_bytes(module("brand_new"))
    assert modules.check_own(tmp_path / "new.ko", kernel).replaces is None


def test_a_module_for_another_kernel_is_refused(kernel: Kernel, tmp_path: Path) -> None:
    file = tmp_path / "vivid.ko"
    file.write_bytes(module("vivid", vermagic="6.1.0-56-amd64 SMP preempt mod_unload modversions "))
    with pytest.raises(HilError) as caught:
        modules.check_own(file, kernel)
    for part in ("vivid", "'6.1.0-56-amd64 SMP", repr(VERMAGIC.strip()), str(file)):
        assert part in caught.value.message
    assert RELEASE in caught.value.hint


def test_other_files_given_as_modules(kernel: Kernel, tmp_path: Path) -> None:
    with pytest.raises(HilError, match="no such module file"):
        modules.check_own(tmp_path / "none.ko", kernel)
    text = tmp_path / "text.ko"
    text.write_text("hello, I am a text of some length" * 9)
    with pytest.raises(HilError, match="no ELF file"):
        modules.check_own(text, kernel)
    built_in = tmp_path / "virtio_pci.ko"
    built_in.write_bytes(module("virtio_pci"))
    with pytest.raises(HilError, match="built into"):
        modules.check_own(built_in, kernel)
    one, two = tmp_path / "a.ko", tmp_path / "b.ko"
    one.write_bytes(module("vivid"))
    two.write_bytes(module("vivid"))
    with pytest.raises(HilError, match="both the module vivid"):
        modules.check_all([one, two], kernel)
