# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels from package files, folders and the archive's catalogue; every way to get them wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from kernel_parts import RELEASE, arm64_image, bzimage, fill, kernel_files, module, package

from hil.errors import HilError
from hil.lab import cache, catalogue, hosttools, image, kernel_tree, kernels, modules
from hil.lab.archive import Archive, Package
from hil.lab.catalogue import Build
from hil.lab.progress import quiet

needs_dpkg = pytest.mark.skipif(
    bool(hosttools.missing(["dpkg-deb", "depmod"])), reason="needs dpkg-deb and depmod"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def error_of(spec: str) -> HilError:
    with pytest.raises(HilError) as caught:
        kernels.get(spec, say=quiet)
    return caught.value


# specs


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("6.12", "Did you mean debian:6.12?"),
        ("v6.12.3", "Did you mean debian:6.12.3?"),
        ("linux-image.deb", "Did you mean deb:linux-image.deb?"),
        ("../linux", "Did you mean dir:../linux?"),
        ("debian:", "Expected is debian:SERIES"),
        ("fedora:41", "Expected is debian:SERIES"),
    ],
)
def test_a_spec_that_is_not_understood_names_the_likely_one(spec: str, hint: str) -> None:
    error = error_of(spec)
    assert repr(spec) in error.message
    assert hint in error.hint


# package files


@needs_dpkg
@pytest.mark.parametrize("modules_at", ["lib/modules", "usr/lib/modules"])
def test_one_package(tmp_path: Path, modules_at: str) -> None:
    deb = package(tmp_path, f"linux-image-{RELEASE}", kernel_files(modules=modules_at))
    kernel = kernels.get(f"deb:{deb}", say=quiet)
    assert (kernel.release, kernel.version, kernel.arch) == (RELEASE, "6.12.117", "amd64")
    assert kernel.package_version == "6.12.117-1"
    assert kernel.vmlinuz.read_bytes() == bzimage()
    assert kernel.modules.name == RELEASE
    assert "vivid.ko: kernel/drivers/mc.ko" in (kernel.modules / "modules.dep").read_text()
    assert kernel.config is not None and kernel.config.read_text() == "CONFIG_NUMA=y\n"
    assert kernel.system_map is not None and kernel.system_map.read_text() == "map\n"


@needs_dpkg
def test_the_three_packages_of_6_19_and_later(tmp_path: Path) -> None:
    release = "7.3.4+deb13-amd64"
    whole = kernel_files(release)
    beside = f"usr/lib/modules/{release}"
    parts = {
        "base": {
            f"{beside}/config": b"c",
            f"{beside}/System.map": b"m",
            f"{beside}/modules.builtin": b"",
        },
        "binary": {f"{beside}/vmlinuz": bzimage(release)},
        "modules": {name: data for name, data in whole.items() if name.endswith(".ko")},
    }
    version = "7.3.4-1~bpo13+1"
    debs = [package(tmp_path, f"linux-{n}-{release}", f, version) for n, f in parts.items()]
    kernel = kernels.get("deb:" + ",".join(map(str, debs)), say=quiet)
    assert (kernel.release, kernel.version) == (release, "7.3.4")
    assert kernel.vmlinuz.read_bytes() == bzimage(release)
    assert kernel.config is not None and kernel.config.read_bytes() == b"c"
    error = error_of(f"deb:{debs[0]},{debs[1]}")
    assert "has no modules" in error.message
    assert "linux-modules-*" in error.hint
    assert "no kernel image" in error_of(f"deb:{debs[2]}").message


@needs_dpkg
def test_an_abi_name_hides_the_stable_point_that_the_package_version_tells(tmp_path: Path) -> None:
    release = "6.1.0-56-amd64"
    deb = package(tmp_path, f"linux-image-{release}", kernel_files(release), "6.1.192-2")
    kernel = kernels.get(f"deb:{deb}", say=quiet)
    assert (kernel.release, kernel.version) == (release, "6.1.192")


@needs_dpkg
def test_a_cached_package_is_not_unpacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deb = package(tmp_path, f"linux-image-{RELEASE}", kernel_files())
    first = kernels.get(f"deb:{deb}", say=quiet)

    def never(*_: object) -> None:
        raise AssertionError("unpacked again")

    monkeypatch.setattr(kernel_tree, "unpack", never)
    assert kernels.get(f"deb:{deb}", say=quiet) == first


@needs_dpkg
def test_another_package_content_is_another_identity(tmp_path: Path) -> None:
    files = kernel_files()
    one = package(fill(tmp_path / "a", {}), f"linux-image-{RELEASE}", files)
    files[f"boot/config-{RELEASE}"] += b"CONFIG_KASAN=y\n"
    two = package(fill(tmp_path / "b", {}), f"linux-image-{RELEASE}", files)
    a, b = (kernels.get(f"deb:{deb}", say=quiet) for deb in (one, two))
    assert a.identity != b.identity
    assert a.vmlinuz != b.vmlinuz


@needs_dpkg
def test_a_truncated_package_leaves_nothing_behind(tmp_path: Path, own_cache: Path) -> None:
    deb = package(tmp_path, f"linux-image-{RELEASE}", kernel_files())
    data = deb.read_bytes()
    for keep in (len(data) // 2, 40, 0):
        deb.write_bytes(data[:keep])
        error = error_of(f"deb:{deb}")
        assert "truncated or no Debian package" in error.message
        assert str(keep) in error.hint
    left = [path for path in own_cache.rglob("*") if "kernels" in path.parts and path.is_file()]
    assert left == []


@needs_dpkg
def test_packages_that_are_no_kernel_for_this_machine(tmp_path: Path) -> None:
    other = package(tmp_path, "busybox", {"bin/busybox": b""})
    assert "busybox, which is no kernel" in error_of(f"deb:{other}").message
    arm = package(tmp_path, "linux-image-6.12.9-arm64", kernel_files(), arch="arm64")
    assert "is a package for arm64" in error_of(f"deb:{arm}").message
    empty = package(tmp_path, "linux-image-7.3.4-amd64", {"usr/share/doc/x": b""})
    error = error_of(f"deb:{empty}")
    assert "no kernel image inside" in error.message
    assert "three packages" in error.hint
    assert "no such package file" in error_of(f"deb:{tmp_path}/none.deb").message


@needs_dpkg
def test_an_image_of_another_width_or_build_is_refused(tmp_path: Path) -> None:
    narrow = {**kernel_files(), f"boot/vmlinuz-{RELEASE}": bzimage(wide=False)}
    deb = package(fill(tmp_path / "a", {}), f"linux-image-{RELEASE}", narrow)
    assert "is a kernel for i386" in error_of(f"deb:{deb}").message
    mixed = {**kernel_files(), f"boot/vmlinuz-{RELEASE}": bzimage("6.12.9")}
    deb = package(fill(tmp_path / "b", {}), f"linux-image-{RELEASE}", mixed)
    assert "is 6.12.9, but the modules are for" in error_of(f"deb:{deb}").message


@needs_dpkg
def test_a_full_disk_tells_what_is_needed_and_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deb = package(tmp_path, f"linux-image-{RELEASE}", kernel_files())
    usage = shutil.disk_usage(tmp_path)._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    error = error_of(f"deb:{deb}")
    assert "disk full" in error.message
    assert "0.0 MB free" in error.message
    assert "XDG_CACHE_HOME" in error.hint


# folders


def build_tree(root: Path) -> Path:
    files = {
        "Kbuild": b"",
        "arch/x86/boot/bzImage": bzimage("6.12.9-mine", "(me@here) #4"),
        "include/config/kernel.release": b"6.12.9-mine\n",
        ".config": b"CONFIG_VIDEO_VIVID=m\n",
        "System.map": b"m",
        "modules.order": b"drivers/mc.o\ndrivers/vivid.o\n",
        "modules.builtin": b"",
    }
    for name, needs in (("mc", ""), ("vivid", "mc")):
        files[f"drivers/{name}.ko"] = module(name, depends=needs, vermagic="6.12.9-mine SMP ")
    return fill(root, files)


@needs_dpkg
def test_a_build_tree_is_used_in_place_and_left_alone(tmp_path: Path) -> None:
    tree = build_tree(tmp_path / "linux")
    before = sorted(tree.rglob("*"))
    kernel = kernels.get(f"dir:{tree}")
    assert (kernel.release, kernel.version) == ("6.12.9-mine", "6.12.9")
    assert kernel.vmlinuz == tree / "arch/x86/boot/bzImage"
    assert kernel.config == tree / ".config"
    found = modules.closure(kernel, ["vivid"])
    assert found.names == ["mc", "vivid"]
    assert [file.resolve() for file in found.files] == [
        tree / "drivers/mc.ko",
        tree / "drivers/vivid.ko",
    ]
    assert sorted(tree.rglob("*")) == before
    assert kernels.get(f"dir:{tree}") == kernel


@needs_dpkg
def test_a_rebuilt_module_is_another_identity(tmp_path: Path) -> None:
    tree = build_tree(tmp_path / "linux")
    first = kernels.get(f"dir:{tree}")
    fill(tree, {"drivers/vivid.ko": module("vivid", extra="author=me")})
    second = kernels.get(f"dir:{tree}")
    assert first.identity != second.identity
    # without mc it no longer depends on it: depmod has run again
    assert modules.closure(second, ["vivid"]).names == ["vivid"]


@needs_dpkg
def test_build_trees_that_are_not_built(tmp_path: Path) -> None:
    tree = build_tree(tmp_path / "linux")
    for file in tree.glob("drivers/*.ko"):
        file.unlink()
    error = error_of(f"dir:{tree}")
    assert "no modules are built" in error.message
    assert "make modules" in error.hint
    (tree / "arch/x86/boot/bzImage").unlink()
    error = error_of(f"dir:{tree}")
    assert "arch/x86/boot/bzImage is missing" in error.message
    assert "make bzImage modules" in error.hint
    fill(tree, {"arch/arm64/boot/Image": arm64_image()})
    assert "a kernel for arm64, not for amd64" in error_of(f"dir:{tree}").message


@needs_dpkg
def test_an_unpacked_package_works_as_a_folder(tmp_path: Path) -> None:
    tree = fill(tmp_path / "k", kernel_files())
    kernel = kernels.get(f"dir:{tree}")
    assert (kernel.release, kernel.version) == (RELEASE, "6.12.117")
    assert modules.closure(kernel, ["vivid"]).names == ["mc", "vivid"]
    assert not (tree / "usr/lib/modules" / RELEASE / "modules.dep").exists()


def test_folders_that_hold_no_kernel(tmp_path: Path) -> None:
    assert "no such folder" in error_of(f"dir:{tmp_path}/none").message
    assert "no kernel image" in error_of(f"dir:{fill(tmp_path / 'e', {'x': b''})}").message
    two = fill(tmp_path / "t", {**kernel_files(), **kernel_files("6.1.0-1-amd64")})
    assert "more than one kernel" in error_of(f"dir:{two}").message


def test_an_image_is_known_by_its_head(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(bzimage("6.1.0-56-amd64", "(a@b) #1 SMP Debian 6.1.192-2 (2026-11-01)"))
    found = image.read(file)
    assert (found.arch, found.release) == ("amd64", "6.1.0-56-amd64")
    assert image.true_version(found.release, found.banner) == "6.1.192"
    assert image.true_version("7.3.0-rc2-g1234", "(a@b) #1") == "7.3.0-rc2"
    file.write_bytes(arm64_image())
    assert image.read(file).arch == "arm64"
    file.write_bytes(b"\x7fELF" + b"\0" * 600)
    with pytest.raises(HilError, match="no kernel image"):
        image.read(file)


# the archive


class FakeArchive(NamedTuple):
    arch: str = "amd64"
    updated: float = 1.0
    rows: tuple[tuple[str, str], ...] = ()

    @property
    def settings(self) -> object:
        class Settings(NamedTuple):
            flavours: dict[str, str]

        return Settings({"amd64": "amd64"})

    def names(self, prefix: str) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.rows if name.startswith(prefix)))

    def packages(self, names: list[str]) -> list[Package]:
        return [
            Package(n, v, ("bookworm-backports", "trixie"), 108_000_000, 9, f"{n}{v}")
            for n, v in self.rows
            if n in names
        ]


ROWS = (
    ("linux-image-5.10.0-46-amd64", "5.10.262-1"),
    ("linux-image-6.1.0-56-amd64", "6.1.192-2"),
    ("linux-image-6.1.0-0.deb11.52-amd64", "6.1.180-1~deb11u1"),
    ("linux-image-6.12.117+deb12-amd64", "6.12.117-1~deb12u1"),
    ("linux-image-6.12.117+deb13-amd64", "6.12.117-1"),
    ("linux-image-6.12.95+deb13-amd64", "6.12.95-1"),
    ("linux-image-6.12.118+deb13-cloud-amd64", "6.12.118-1"),
    ("linux-image-6.12.118+deb13-rt-amd64", "6.12.118-1"),
    ("linux-image-6.12.118+deb13-amd64-unsigned", "6.12.118-1"),
    ("linux-image-6.12.118+deb13-amd64-dbg", "6.12.118-1"),
    ("linux-image-6.12-amd64", "6.12.118-1"),
    ("linux-image-amd64", "6.12.118-1"),
    ("linux-image-6.19.14+deb13-amd64", "6.19.14-1~bpo13+1"),
    ("linux-binary-6.19.14+deb13-amd64", "6.19.14-1~bpo13+1"),
    ("linux-image-7.3.4+deb13-amd64", "7.3.4-1~bpo13+1"),
    ("linux-base-7.3.4+deb13-amd64", "7.3.4-1~bpo13+1"),
    ("linux-binary-7.3.4+deb13-amd64", "7.3.4-1~bpo13+1"),
    ("linux-modules-7.3.4+deb13-amd64", "7.3.4-1~bpo13+1"),
)


def builds_of(rows: tuple[tuple[str, str], ...]) -> list[Build]:
    return catalogue.find_builds(FakeArchive(rows=rows))  # type: ignore[arg-type]


def test_only_whole_plain_kernels_count() -> None:
    builds = builds_of(ROWS)
    whole = {build.release: build for build in builds if not build.missing}
    assert list(whole) == [
        "5.10.0-46-amd64",
        "6.1.0-0.deb11.52-amd64",
        "6.1.0-56-amd64",
        "6.12.95+deb13-amd64",
        "6.12.117+deb12-amd64",
        "6.12.117+deb13-amd64",
        "7.3.4+deb13-amd64",
    ]
    assert whole["6.1.0-56-amd64"].version == "6.1.192"
    names = [package.name for package in whole["7.3.4+deb13-amd64"].packages]
    assert names == [f"linux-{part}-7.3.4+deb13-amd64" for part in ("base", "binary", "modules")]
    (torn,) = (build for build in builds if build.missing)
    assert torn.missing == (
        "linux-base-6.19.14+deb13-amd64",
        "linux-modules-6.19.14+deb13-amd64",
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Iterator[None]:
    """A machine with lists from just now and no network."""
    import time

    now = time.time()
    archive = FakeArchive(updated=now, rows=ROWS)
    catalogue.renew(archive)  # type: ignore[arg-type]

    def ensure(self: Archive, *, refresh: bool = False, daily: bool = True) -> bool:
        if refresh:
            raise HilError("no network")
        return False

    def download(self: Archive, *_: object, **__: object) -> list[Path]:
        raise HilError("fetching failed: no network")

    monkeypatch.setattr(Archive, "updated", now)
    monkeypatch.setattr(Archive, "ensure", ensure)
    monkeypatch.setattr(Archive, "download", download)
    yield


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("spec", "release"),
    [
        ("debian:6.12", "6.12.117+deb13-amd64"),
        ("debian:6.12.117", "6.12.117+deb13-amd64"),
        ("debian:6.12.117+deb12", "6.12.117+deb12-amd64"),
        ("debian:6.12.117-1~deb12u1", "6.12.117+deb12-amd64"),
        ("debian:6.1.0-56-amd64", "6.1.0-56-amd64"),
        ("debian:6.1.192", "6.1.0-56-amd64"),
        ("debian:5.10", "5.10.0-46-amd64"),
        ("debian:7.3", "7.3.4+deb13-amd64"),
    ],
)
def test_what_a_spec_of_the_archive_means(spec: str, release: str) -> None:
    assert kernels.resolve(spec).release == release


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("debian:6.13", "has a kernel debian:6.13", "The nearest is debian:6.12."),
        ("debian:9.9", "has a kernel debian:9.9", "The nearest is debian:7.3."),
        ("debian:6.12.116", "debian:6.12.116", "The nearest is debian:6.12.117."),
        ("debian:trixie", "debian:trixie", "Series to be had: 5.10, 6.1, 6.12, 7.3."),
        ("debian:6.19", "lacks linux-base-6.19.14+deb13-amd64", "Series to be had"),
        ("debian:6.12", "no network", ""),
    ],
)
def test_kernels_that_cannot_be_had(spec: str, message: str, hint: str) -> None:
    error = error_of(spec)
    assert message in error.message
    assert hint in error.hint


@needs_dpkg
def test_without_network_the_newest_cached_kernel_of_a_series_serves(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = "6.12.95+deb13-amd64"
    deb = package(tmp_path, f"linux-image-{release}", kernel_files(release), "6.12.95-1")

    def download(self: Archive, chosen: list[str], folder: Path, what: str) -> list[Path]:
        if chosen != [f"linux-image-{release}=6.12.95-1"]:
            raise HilError(f"{what} failed: no network")
        return [Path(shutil.copy(deb, folder))]

    monkeypatch.setattr(Archive, "download", download)
    said: list[str] = []
    wanted = kernels.get("debian:6.12.95", say=lambda what, done=None: said.append(what))
    assert wanted.release == release
    assert "unpacking kernel 6.12.95+deb13-amd64 (108 MB)" in said
    said.clear()
    got = kernels.get("debian:6.12", say=lambda what, done=None: said.append(what))
    assert got == wanted._replace(spec="debian:6.12")
    assert any(what.startswith("note: 6.12.117+deb13-amd64 cannot be had") for what in said)
    series, notes = kernels.list_series()
    assert {one.series: one.cached for one in series}["6.12"] == (release,)
    assert any(note.startswith("no 6.19: the mirror lacks") for note in notes)


def test_staging_is_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "t"
    with pytest.raises(RuntimeError), cache.staging(target) as stage:
        (stage / "half").touch()
        raise RuntimeError
    assert list(tmp_path.glob("*t*")) == [] and not target.exists()
    with cache.staging(target) as stage:
        (stage / "whole").touch()
    left = target.parent / f".{target.name}.new.999999999"
    left.mkdir()  # of a killed writer
    with cache.staging(target) as stage:
        (stage / "next").touch()
    assert [path.name for path in target.iterdir()] == ["next"]
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []


@pytest.mark.usefixtures("offline")
def test_the_table_never_cuts_what_goes_into_a_command() -> None:
    from rich.console import Console

    console = Console(width=80)
    wide = Console(width=120)
    with wide.capture() as captured:
        kernels.print_list(wide)
    assert "  6.12.117-1 " in captured.get()
    with console.capture() as captured:
        assert kernels.print_list(console) == 0
    rows = captured.get().splitlines()
    assert any(
        row.startswith("debian:6.12  6.12.117+deb13-amd64  bookworm-backports, trixie  108 MB")
        for row in rows
    )
    assert any("note: no 6.19" in row for row in rows)
    with console.capture() as captured:
        kernels.print_list(console, every=True)
    assert "debian:6.12.117+deb12-amd64 " in captured.get()
    assert "6.12.117-1~deb12u1  bookworm-backports, trixie  108 MB" in captured.get()
