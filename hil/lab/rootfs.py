# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root: a closure of Debian packages and our own environment, in one squashfs.

Nothing of the host's files is in it, so a guest is the same everywhere, and because no host folder
is mounted in it, it can be snapshot.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, holding, hosttools, packages
from hil.lab.architectures import ARCHITECTURES
from hil.lab.board import ROOT
from hil.rules import toml

SUITE = "bookworm"
PACKAGES = (
    "btrfs-progs",
    "busybox-static",
    "e2fsprogs",
    "kmod",
    "libc-bin",
    "libudev1",
    "python3",
    "util-linux",
    "xfsprogs",
)
# What the suite itself needs in the guest; pygments only because pytest names it.
_DISTRIBUTIONS = (
    "pytest", "pluggy", "iniconfig", "packaging", "pygments", "pyudev", "v4l2-python3", "ioctl-opt",
)  # fmt: skip
_OURS = ("hil", "fixtures", "conftest.py", "pyproject.toml", "tests/hw", "lab-config")
# Parts of ours that no guest imports: a change in them leaves images and snapshots as they are.
_OUTSIDE = ("hil/bisect", "hil/commands", "hil/faults")
# Parts of packages that no guest reads, and of Python two that pytest imports and nobody uses: they
# bring libcrypto and libreadline, and hashlib has constructors of its own.
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info",
             "usr/share/python3/runtime.d", "usr/lib/*/gconv",
             "usr/lib/python3.11/lib-dynload/_hashlib.*",
             "usr/lib/python3.11/lib-dynload/readline.*")  # fmt: skip
_KEPT = 4  # images of earlier states of the project
_IN_USE_SECONDS = 86400  # a run that started with an older image may still need it


class GuestRoot(NamedTuple):
    """A guest's root: its squashfs, the folder of its packages, and what they are identified by."""

    image: Path
    identity: str
    folder: Path
    tools: str
    """Identity of the packages alone."""
    arch: str

    def run(self, command: Sequence[str]) -> str:
        """Run one of the closure's own programs on the host, with the closure's libraries."""
        places = [self.folder / d / command[0] for d in ("usr/sbin", "usr/bin")]
        program = next((place for place in places if place.exists()), None)
        if program is None:
            raise HilError(
                f"the guest's packages hold no {command[0]}", "Name its package in rootfs.py."
            )
        return _run_in(self.folder, self.arch, [str(program), *command[1:]])


def get(arch: str = "x86_64", more: Sequence[str] = ()) -> GuestRoot:
    """The guest image of this project for ``arch``; made when anything that goes in has changed.

    ``more`` are packages that it is to have besides.
    """
    closure = packages.closure(SUITE, [*PACKAGES, *more], ARCHITECTURES[arch].debian)
    key = hashlib.sha256(f"{closure.identity} {_project_identity()}".encode()).hexdigest()[:16]
    image = cache.root() / "images" / f"{arch}-{key}.squashfs"
    root = GuestRoot(image, key, closure.folder, closure.identity[:16], arch)
    if not image.exists():
        with cache.lock(f"image-{arch}"):
            if not image.exists():
                _build(root)
    return root


def _build(root: GuestRoot) -> None:
    """Byte-compile everything with the guest's own Python, then squash it."""
    image = root.image
    image.parent.mkdir(parents=True, exist_ok=True)
    cache.need_space(image.parent, 400_000_000, "the guest image")
    _compile_closure(root)
    with (
        cache.staging(image.with_suffix(".tree")) as tree,
        cache.full_disk_is_an_error(image.parent, "the guest image"),
    ):
        # Hard links: the closure is 115 MB, and stays as it is.
        shutil.copytree(root.folder, tree, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
        for left_out in _LEFT_OUT:
            for found in tree.glob(left_out):
                if found.is_dir():
                    shutil.rmtree(found, ignore_errors=True)
                else:
                    found.unlink()
        for place, files in (("opt/site-packages", _site_packages()), ("opt/hil", _own_files())):
            for source, name in files:
                target = tree / place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                if target.parent == tree / "opt/hil/hil/rules" and target.suffix == ".toml":
                    target.with_suffix(toml.PARSED).write_text(json.dumps(toml.load(target)))
        for name in ("proc", "sys", "dev", "run", "tmp", "mnt", "root", "hil", "mod"):
            (tree / name).mkdir(exist_ok=True)
        compileall(root, tree / "opt", "/opt")
        if ARCHITECTURES[root.arch].native:
            # ctypes finds libraries through ldconfig's cache; elsewhere by their own names.
            triplet = ARCHITECTURES[root.arch].triplet
            (tree / "etc/ld.so.conf").write_text(f"/usr/lib/{triplet}\n")
            root.run(["ldconfig", "-r", str(tree)])
        fresh = image.with_name(f".{image.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        _call([str(hosttools.need("mksquashfs")), str(tree), str(fresh), "-noappend", "-quiet",
               "-comp", "lz4", "-no-xattrs", "-all-root", "-no-progress"])  # fmt: skip
        fresh.rename(image)
    shutil.rmtree(image.with_suffix(".tree"), ignore_errors=True)
    images = sorted(image.parent.glob(f"{root.arch}-*.squashfs"), key=lambda p: p.stat().st_mtime)
    for old in images[:-_KEPT]:
        if time.time() - old.stat().st_mtime > _IN_USE_SECONDS:
            holding.remove(old)


def _compile_closure(root: GuestRoot) -> None:
    """Packages come without byte code; it is made in a fresh copy's place, once a closure."""
    done = root.folder / "opt/.byte-compiled"
    if not done.exists():
        compileall(root, root.folder / "usr/lib/python3.11", "/usr/lib/python3.11")
        done.parent.mkdir(exist_ok=True)
        done.touch()


def compileall(root: GuestRoot, folder: Path, shown: str) -> None:
    """Byte-compile ``folder`` for the guest's Python; ``shown`` is its name in tracebacks.

    The byte code is marked as never to be checked against its source, which saves a stat a module.
    """
    if ARCHITECTURES[root.arch].native:
        words = ["-E", "-S", "-c", _OWN_PATH + _COMPILE, str(folder), shown]
        _run_in(root.folder, root.arch, [str(root.folder / "usr/bin/python3.11"), *words])
    elif sys.version_info[:2] == (3, 11):
        # Byte code is the same on every architecture, but only within a version.
        _call([sys.executable, "-E", "-S", "-c", _COMPILE, str(folder), shown])


_OWN_PATH = """
import sys; sys.path[:] = [p for p in sys.path if 'lib-dynload' in p or p.endswith('python3.11')]
"""
_COMPILE = """
import sys
import compileall, py_compile
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(sys.argv[1], 50, sys.argv[2], quiet=2, invalidation_mode=mode, force=True)
"""


def _run_in(folder: Path, arch: str, command: Sequence[str]) -> str:
    one = ARCHITECTURES[arch]
    if not one.native:
        raise HilError(
            f"{Path(command[0]).name} is a program for {arch}, which this machine does not run",
            "Use a RAM disk of the guest in place of persistent memory.",
        )
    libraries = f"{folder}/lib/{one.triplet}:{folder}/usr/lib/{one.triplet}"
    loader = [str(folder / one.loader), "--library-path", libraries]
    return _call([*loader, *command], PYTHONHOME=str(folder / "usr"))


def _call(command: Sequence[str], **variables: str) -> str:
    environment = hosttools.environment(variables)
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HilError(
            f"{Path(command[0]).name} ended with {done.returncode}: {done.stdout.strip()[-400:]}",
            f"The whole command was: {' '.join(command)[:600]}",
        )
    return done.stdout


def _site_packages() -> Iterator[tuple[Path, str]]:
    for name in _DISTRIBUTIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise HilError(f"the Python package {name} is missing", "Run `make setup`.") from None
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            # Launchers in bin/ and test suites have no business in the guest.
            if ".." not in file.parts and source.suffix not in (".pyc", ".so") and source.is_file():
                yield source, str(file)


def _own_files() -> Iterator[tuple[Path, str]]:
    for part in _OURS:
        top = ROOT / part
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            name = str(path.relative_to(ROOT))
            if path.is_file() and path.suffix != ".pyc" and not name.startswith(_OUTSIDE):
                yield path, name


def _project_identity() -> str:
    """Changes with every byte that goes into the image besides the packages."""
    digest = hashlib.sha256(repr((_DISTRIBUTIONS, _OURS, _LEFT_OUT, _OWN_PATH, _COMPILE)).encode())
    for name in _DISTRIBUTIONS:
        try:
            digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
        except importlib.metadata.PackageNotFoundError:
            digest.update(f"{name} missing\n".encode())
    for path, name in _own_files():
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
