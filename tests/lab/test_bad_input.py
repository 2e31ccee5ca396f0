# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person can get wrong ends with status 2, a message, and no traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hil.lab import kernels, modules
from hil.lab.kernels import Kernel
from tests.lab.driving import Run, copy_of_the_board, finished

RUN = ("run", "-k", "video0/ and /memfd/ and steady")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return kernels.get("debian:6.12")


@pytest.fixture(scope="module")
def vivid(kernel: Kernel) -> bytes:
    """The stock module, unpacked as a developer's own build would be."""
    return modules.read(modules.closure(kernel, ["vivid"]).files[-1])


def refused(out: Path, *arguments: object, env: dict[str, str] | None = None) -> str:
    status, output = finished(*RUN, "--out", out, *arguments, env=env)
    assert status == 2, output
    assert "Traceback" not in output
    return output


def test_kernels(tmp_path: Path) -> None:
    assert "debian:6.12" in refused(tmp_path, "--kernel", "6.12")
    assert "2.4" in refused(tmp_path, "--kernel", "debian:2.4")
    assert "no such folder" in refused(tmp_path, "--kernel", f"dir:{tmp_path}/none")


def test_a_truncated_package(tmp_path: Path) -> None:
    tree, deb = tmp_path / "tree", tmp_path / "linux-image.deb"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "boot").mkdir()
    (tree / "boot/vmlinuz-6.12.1").write_bytes(os.urandom(100_000))
    (tree / "DEBIAN/control").write_text(
        "Package: linux-image-6.12.1\nVersion: 1\nArchitecture: amd64\n"
        "Maintainer: x <x@example.org>\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, stdout=subprocess.DEVNULL)
    deb.write_bytes(deb.read_bytes()[:50_000])
    assert str(deb) in refused(tmp_path, "--kernel", f"deb:{deb}")
    assert "no-such.deb" in refused(tmp_path, "--kernel", "deb:no-such.deb")


def test_boards(tmp_path: Path) -> None:
    board = copy_of_the_board(tmp_path, "command-line", "comand-line")
    output = refused(tmp_path, "--board", board)
    assert f"{board}: machine: unknown key 'comand-line'" in output
    assert "Did you mean 'command-line'?" in output
    assert "virtual-x86" in refused(tmp_path, "--board", "virtual-x68")
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert f"{folder}: cannot be read" in refused(tmp_path, "--board", folder)


def test_no_qemu(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    output = refused(tmp_path, env={"PATH": str(empty)})
    assert "qemu-system-x86_64 is missing" in output
    assert "apt-get install qemu-system-x86" in output


def test_out_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in refused(file)


def test_a_module_for_another_kernel(tmp_path: Path, kernel: Kernel, vivid: bytes) -> None:
    other = tmp_path / "vivid.ko"
    old = kernel.release.encode()
    other.write_bytes(vivid.replace(b"vermagic=" + old, b"vermagic=" + b"9" + old[1:]))
    output = refused(tmp_path, "--module", other)
    assert "the module vivid" in output
    assert "9" + kernel.release[1:] in output
    assert kernel.release in output
    assert "no such module file" in refused(tmp_path, "--module", tmp_path / "none.ko")


def test_a_module_of_ones_own_takes_the_place_of_the_stock_one(
    tmp_path: Path, vivid: bytes
) -> None:
    own = tmp_path / "vivid.ko"
    own.write_bytes(vivid)
    status, output = finished(*RUN, "--cold", "--module", own, "--out", tmp_path)
    assert status == 0, output
    run = Run(tmp_path)
    assert [r["verdict"] for r in run.records] == ["ok"]
    assert str(own) in str(run.meta["own_modules"])
    assert [start["how"] for start in run.meta["starts"]] == ["cold"]
