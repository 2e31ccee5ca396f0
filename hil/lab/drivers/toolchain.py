# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiler for a kernel's modules, and kbuild's programs on a machine with an older libc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from hil.lab import hosttools, packages
from hil.lab.architectures import ARCHITECTURES, own
from hil.lab.kernels import Kernel
from hil.lab.progress import Say

_PREFIXES = {one.debian: f"{one.triplet}-" for one in ARCHITECTURES.values()}
_ARCH = {"amd64": "x86", "arm64": "arm64", "armhf": "arm"}
# What kbuild's programs of a newer Debian need, and the suite that has it.
_LIBRARIES = ("libc6", "libelf1t64", "zlib1g", "libzstd1", "libssl3t64")
_SUITE = "trixie"


class Compiler(NamedTuple):
    """How to call make for one architecture."""

    variables: tuple[str, ...]
    """NAME=VALUE for make's command line."""
    environment: dict[str, str]
    strip: str
    identity: str


def host_arch() -> str:
    """Debian's name of this machine's architecture."""
    return own().debian


def of_programs(arch: str) -> str:
    """What the names of compiler and strip begin with: nothing for this machine's architecture."""
    return "" if arch == host_arch() else _PREFIXES[arch]


def find(kernel: Kernel) -> Compiler:
    """A compiler for the kernel: the version that built it where it is installed, else any gcc."""
    prefix = of_programs(kernel.arch)
    config = kernel.config.read_text(errors="replace") if kernel.config else ""
    built = re.search(r"^CONFIG_GCC_VERSION=(\d+)", config, re.MULTILINE)
    wanted = int(built[1]) // 10000 if built else 0
    name = f"{prefix}gcc-{wanted}"
    if not wanted or hosttools.find(name) is None:
        name = f"{prefix}gcc"
    hosttools.need("make")
    path = hosttools.need(name)
    said = hosttools.run([path, "-dumpfullversion"]).decode().strip()
    variables = [f"ARCH={_ARCH[kernel.arch]}", f"CC={path}", f"HOSTCC={hosttools.need('gcc')}"]
    if prefix:
        variables.append(f"CROSS_COMPILE={prefix}")
    if int(said.split(".")[0]) < 14 <= wanted:
        # What gcc 14 brought: without the option kbuild aligns functions the older way.
        variables.append("CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=")
    # make takes these from the environment, and they may be meant for something else
    environment = {name: "" for name in ("MAKEFLAGS", "KBUILD_OUTPUT", "KCFLAGS")}
    return Compiler(tuple(variables), environment, f"{prefix}strip", f"{name} {said}")


def make_runnable(stage: Path, place: Path, say: Say) -> None:
    """Let kbuild's programs below ``stage``, which will be ``place``, run with this machine's libc.

    Where they ask for a newer one each is called through that libc's own loader, from the cache.
    """
    programs = [path for path in sorted((stage / "usr/lib").glob("linux-kbuild-*/**/*"))
                if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK)
                and path.read_bytes()[:4] == b"\x7fELF"]  # fmt: skip
    foreign = [path for path in programs if not _runs(path)]
    if not foreign:
        return
    host = own()
    closure = packages.closure(_SUITE, _LIBRARIES, host.debian, say=say)
    loader = closure.folder / host.loader
    libraries = ":".join(str(closure.folder / part / host.triplet) for part in ("usr/lib", "lib"))
    for path in foreign:
        real = path.with_name(f"{path.name}.real")
        path.rename(real)
        final = place / real.relative_to(stage)
        path.write_text(f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" "{final}" "$@"\n')
        path.chmod(0o755)


def _runs(program: Path) -> bool:
    """Whether the dynamic loader finds all that the program asks for."""
    ldd = shutil.which("ldd")
    if ldd is None:
        return True
    done = subprocess.run(
        [ldd, program], env=hosttools.environment(), capture_output=True, text=True, check=False
    )
    return "not found" not in done.stdout + done.stderr
