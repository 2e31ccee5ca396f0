# SPDX-License-Identifier: GPL-2.0-or-later
"""Closures of packages: unpacked on a merged usr, kept until told otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kernel_parts import fill, package

from hil.errors import HilError
from hil.lab import hosttools, packages
from hil.lab.archive import Archive
from hil.lab.progress import quiet

pytestmark = pytest.mark.skipif(bool(hosttools.missing(["dpkg-deb"])), reason="needs dpkg-deb")


@pytest.fixture
def debs(tmp_path: Path) -> list[Path]:
    return [
        package(tmp_path, "libc6", {"lib/x86_64-linux-gnu/libc.so.6": b"c", "lib64/ld.so": b"l"}),
        package(tmp_path, "kmod", {"sbin/depmod": b"d", "usr/bin/kmod": b"k"}, "30-1"),
    ]


def test_packages_meet_in_a_merged_usr(tmp_path: Path, debs: list[Path]) -> None:
    found, sums = packages.unpack(debs, tmp_path / "tree")
    assert found == {"kmod": "30-1", "libc6": "6.12.117-1"}
    assert len(sums) == 2
    tree = tmp_path / "tree"
    for name in ("lib", "lib64", "sbin", "bin"):
        assert (tree / name).is_symlink(), name
    assert (tree / "usr/lib/x86_64-linux-gnu/libc.so.6").read_bytes() == b"c"
    assert (tree / "usr/lib64/ld.so").read_bytes() == b"l"
    assert (tree / "usr/sbin/depmod").read_bytes() == b"d"
    assert not (tree / "lib32").exists() and not (tree / "usr/lib32").exists()


@pytest.fixture
def chosen(tmp_path: Path, debs: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An archive that gives ``debs`` for whatever is asked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def download(
        _: Archive, chosen: list[str], folder: Path, *__: object, **___: object
    ) -> list[Path]:
        return [Path(shutil.copy(deb, folder)) for deb in debs]

    monkeypatch.setattr(Archive, "ensure", lambda *_, **__: False)
    monkeypatch.setattr(Archive, "closure", lambda _, names, suite: list(names))
    monkeypatch.setattr(Archive, "narrowed", lambda *_: tmp_path / "x.sources")
    monkeypatch.setattr(Archive, "download", download)
    return debs


def test_a_closure_stays_until_a_refresh(
    tmp_path: Path, chosen: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packages.closure("bookworm", ["kmod", "libc6"], say=quiet)
    assert first.packages == {"kmod": "30-1", "libc6": "6.12.117-1"}
    assert (first.folder / "usr/bin/kmod").read_bytes() == b"k"
    kept = list(chosen)
    chosen[:] = [package(fill(tmp_path / "n", {}), "kmod", {"usr/bin/kmod": b"new"}, "31-1")]
    assert packages.closure("bookworm", ["libc6", "kmod", "kmod"], say=quiet) == first
    second = packages.closure("bookworm", ["kmod", "libc6"], refresh=True, say=quiet)
    assert second.packages == {"kmod": "31-1"}
    assert second.identity != first.identity
    assert (second.folder / "usr/bin/kmod").read_bytes() == b"new"
    chosen[:] = kept
    again = packages.closure("bookworm", ["kmod", "libc6"], refresh=True, say=quiet)
    assert again.identity == first.identity


def test_a_broken_download_leaves_no_closure(tmp_path: Path, chosen: list[Path]) -> None:
    chosen[1].write_bytes(chosen[1].read_bytes()[:100])
    with pytest.raises(HilError, match="truncated"):
        packages.closure("bookworm", ["kmod"], say=quiet)
    assert not list((tmp_path / "cache").rglob("packages.json"))
    assert not list((tmp_path / "cache").rglob("*.deb"))
