# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel laid out on disk: unpacked from packages, or found in a folder of the developer's own.

Every tree in the cache looks the same, whatever the package looked like::

    vmlinuz  config  System.map  lib/modules/RELEASE/...  usr -> .

(Debian put modules below lib/ until 6.1, below usr/lib/ since, and from 6.19 on the image beside
them; ``usr -> .`` serves every version of depmod and modprobe.)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, image
from hil.lab.hosttools import ToolError, run

_THREE = (
    "From 6.19 on a kernel is three packages, and linux-image-* is empty: give linux-base-*, "
    "linux-binary-* and linux-modules-* of the same version, with commas between."
)


class Control(NamedTuple):
    """What a package says of itself."""

    name: str
    version: str
    arch: str
    installed: int  # bytes, as the package says


class Found(NamedTuple):
    """The parts of one kernel in a folder."""

    release: str
    vmlinuz: Path
    modules: Path | None  # lib/modules/RELEASE; None for a build tree
    config: Path | None
    system_map: Path | None


def control(deb: Path) -> Control:
    """Read a package's control fields.  HilError when it is no package, or a torn one."""
    if not deb.is_file():
        raise HilError(f"no such package file: {deb}", "The spec is deb:FILE or deb:FILE,FILE.")
    try:
        text = run(
            [
                "dpkg-deb",
                "--show",
                "--showformat=${Package}\\n${Version}\\n${Architecture}\\n${Installed-Size}\\n",
                deb,
            ]
        ).decode()
    except ToolError as error:
        raise _broken(deb, error) from error
    name, version, arch, installed = text.split("\n")[:4]
    return Control(name, version, arch, int(installed or 0) * 1024)


def _broken(deb: Path, error: ToolError) -> HilError:
    if error.disk_full:
        return cache.no_space(Path(tempfile.gettempdir()), deb.name)
    return HilError(
        f"{deb} is truncated or no Debian package: {error.last_line}",
        f"It has {deb.stat().st_size} bytes; fetch it again and compare its checksum.",
    )


def unpack(debs: Sequence[Path], stage: Path, size: int) -> Found:
    """Unpack packages of one kernel into ``stage`` in the layout above, and index its modules.

    ``size`` is what they take unpacked, in bytes.  HilError names what is missing or broken.
    """
    raw = stage / "raw"
    names = ", ".join(deb.name for deb in debs)
    cache.need_space(stage, size, f"unpacking {names}")
    for deb in debs:
        try:
            run(["dpkg-deb", "-x", deb, raw])
        except ToolError as error:
            if error.disk_full:
                raise cache.no_space(stage, f"unpacking {deb.name}", size) from error
            raise _broken(deb, error) from error
    with cache.full_disk_is_an_error(stage, f"unpacking {names}", size):
        found = find(raw, names)
        assert found.modules is not None
        modules = stage / "lib" / "modules" / found.release
        modules.parent.mkdir(parents=True)
        found.modules.rename(modules)
        (stage / "usr").symlink_to(".")
        placed: list[Path | None] = []
        for name, path in (
            ("vmlinuz", found.vmlinuz),
            ("config", found.config),
            ("System.map", found.system_map),
        ):
            if path is None:
                placed.append(None)
                continue
            # the image may have lain beside the modules, which have moved
            at = path if path.exists() else modules / path.name
            at.rename(stage / name)
            placed.append(stage / name)
    shutil.rmtree(raw)
    depmod(stage, found.release)
    assert placed[0] is not None
    return Found(found.release, placed[0], modules, placed[1], placed[2])


def find(root: Path, what: str) -> Found:
    """The one kernel with modules that lies unpacked below ``root``; HilError when none does."""
    folders = {
        folder.name: folder
        for top in ("lib/modules", "usr/lib/modules")
        if (root / top).is_dir()
        for folder in sorted((root / top).iterdir())
        if folder.is_dir() and any(folder.iterdir())
    }
    images = _images(root, folders)
    if not images:
        hint = _THREE if "linux-" in what else "A build tree has arch/x86/boot/bzImage after make."
        raise HilError(f"{what}: no kernel image inside", hint)
    with_both = [release for release in images if release in folders]
    if len(with_both) > 1:
        raise HilError(
            f"{what} holds more than one kernel: {', '.join(sorted(with_both))}",
            "Unpack the wanted one into a folder of its own.",
        )
    if not with_both or not any((folders[with_both[0]]).glob("kernel/*")):
        release = (with_both or sorted(images))[0]
        have = f"; there are modules for {', '.join(folders)}" if folders and not with_both else ""
        raise HilError(f"{what}: the kernel {release} has no modules{have}", _THREE)
    release = with_both[0]
    boot, beside = root / "boot", folders[release]
    return Found(
        release,
        images[release],
        beside,
        _first(boot / f"config-{release}", beside / "config", root / "config"),
        _first(boot / f"System.map-{release}", beside / "System.map", root / "System.map"),
    )


def _images(root: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """Release -> kernel image, of those in the usual places."""
    images: dict[str, Path] = {}
    for name in ("vmlinuz", "bzImage", "Image"):
        if (root / name).is_file():
            release = image.read(root / name).release
            images[release or next(iter(folders), "")] = root / name
    for path in sorted((root / "boot").glob("vmlinu[xz]-*")):
        images[path.name.partition("-")[2]] = path
    for release, folder in folders.items():
        if (folder / "vmlinuz").is_file():
            images[release] = folder / "vmlinuz"
    return images


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def depmod(base: Path, release: str) -> None:
    """Write modules.dep and its kin for ``release`` below ``base``, unless they are there."""
    if (base / "lib" / "modules" / release / "modules.dep").exists():
        return
    try:
        run(["depmod", "-b", base, release])
    except ToolError as error:
        if error.disk_full:
            raise cache.no_space(base, "the module index") from error
        raise HilError(f"depmod failed for {release}: {error.last_line}", error.output) from error


_IMAGES = {
    "amd64": ("arch/x86/boot/bzImage",),
    "arm64": ("arch/arm64/boot/Image.gz", "arch/arm64/boot/Image"),
    "armhf": ("arch/arm/boot/zImage",),
}


def is_build_tree(path: Path) -> bool:
    """Whether a folder is one that ``make`` of the kernel has worked in."""
    return (path / "include" / "config").is_dir() or (path / "Kbuild").exists()


def build_tree(path: Path, arch: str) -> tuple[Found, list[Path]]:
    """The kernel in a build tree (also one made with O=), and its modules.

    HilError when no image or no modules were built, or for another architecture.
    """
    vmlinuz = _first(*(path / name for name in _IMAGES.get(arch, ())))
    if vmlinuz is None:
        others = [a for a, names in _IMAGES.items() if _first(*(path / n for n in names))]
        if others:
            raise HilError(f"{path} holds a kernel for {others[0]}, not for {arch}")
        raise HilError(
            f"{path} has no kernel image: {' or '.join(_IMAGES.get(arch, ('?',)))} is missing",
            "Build it: make bzImage modules (on arm64: make Image.gz modules).",
        )
    name_file = path / "include" / "config" / "kernel.release"
    release = name_file.read_text().strip() if name_file.is_file() else ""
    release = release or image.read(vmlinuz).release
    if not release:
        raise HilError(f"{path}: cannot tell the kernel's release", f"{name_file} is missing.")
    config = _first(path / ".config")
    modules = _built_modules(path)
    if not modules:
        wanted = config.read_text(errors="replace").count("=m\n") if config else 0
        if wanted or not (path / "modules.builtin").is_file():
            raise HilError(
                f"{path}: no modules are built, and its .config asks for {wanted}",
                "Run make modules in it.",
            )
    found = Found(release, vmlinuz, None, config, _first(path / "System.map"))
    return found, modules


def _built_modules(path: Path) -> list[Path]:
    order = path / "modules.order"  # .o names since 6.2, .ko before
    if order.is_file():
        listed = [path / line for line in order.read_text().split()]
        built = [p.with_suffix(".ko") for p in listed]
        return [p for p in built if p.is_file()]
    built = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        built += [Path(folder, name) for name in files if name.endswith(".ko")]
    return sorted(built)


def link_modules(path: Path, modules: Sequence[Path], stage: Path, release: str) -> None:
    """A lib/modules/``release`` below ``stage`` whose modules are links into ``path``."""
    folder = stage / "lib" / "modules" / release
    folder.mkdir(parents=True)
    (stage / "usr").symlink_to(".")
    with cache.full_disk_is_an_error(stage, "links to modules"):
        for module in modules:
            inside = module.relative_to(path)
            link = folder / (inside if inside.parts[0] == "kernel" else Path("kernel") / inside)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(module.resolve())
        for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            if (path / name).is_file():
                text = (path / name).read_bytes()
                (folder / name).write_bytes(text)
            else:
                (folder / name).touch()
    depmod(stage, release)


def stat_identity(paths: Sequence[Path]) -> str:
    """SHA-256 over names, sizes and times: quick, and changed by every rebuild."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        line = f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}\n"
        digest.update(line.encode())
    return digest.hexdigest()
