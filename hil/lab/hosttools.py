# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of this machine that the lab calls, and the packages that bring them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hil.errors import HilError

#: program -> Debian package
PACKAGES = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "apt-config": "apt",
    "dpkg": "dpkg",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "qemu-system-x86_64": "qemu-system-x86",
    "mksquashfs": "squashfs-tools",
    "cpio": "cpio",
    "setpriv": "util-linux",
    "tar": "tar",
    "zstd": "zstd",
    "xz": "xz-utils",
    "gcc": "gcc",
    "make": "make",
    "git": "git",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-aarch64": "qemu-system-arm",
    "dtc": "device-tree-compiler",
    "fdtoverlay": "device-tree-compiler",
}
#: what ``hil run`` needs on a machine where kernel and image come from the archive
NEEDED = ("qemu-system-x86_64", "mksquashfs", "depmod", "dpkg-deb", "tar", "setpriv", "xz", "zstd")

# depmod lies in sbin, which ordinary users of Debian do not have in PATH.
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class ToolError(Exception):
    """A program ended with a status other than 0; ``output`` is what it said."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        self.command, self.status, self.output = command, status, output.strip()
        super().__init__(f"{command[0]} ended with {status}: {self.last_line}")

    @property
    def last_line(self) -> str:
        """The last line it said: for most tools the one that tells why."""
        return self.output.splitlines()[-1].strip() if self.output else "(it said nothing)"

    @property
    def disk_full(self) -> bool:
        """Whether the program died of a full disk."""
        # tar says "Wrote only 2048 of 10240 bytes"
        signs = ("No space left on device", "Disk quota exceeded", "Wrote only ")
        return any(sign in self.output for sign in signs)


def find(name: str) -> Path | None:
    """Where the program is, looking in sbin too; None when it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def need(name: str, instead: str = "") -> Path:
    """Like `find`; HilError names the package that brings it, and what to do ``instead``."""
    path = find(name)
    if path is None:
        package = PACKAGES.get(name, name)
        hint = f"Install it (Debian: apt-get install {package}), or run `make setup`."
        raise HilError(f"the program {name} is missing", f"{hint}  {instead}".rstrip())
    return path


def missing(names: Sequence[str] = NEEDED) -> list[str]:
    """Those of ``names`` that this machine does not have."""
    return [name for name in names if find(name) is None]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a program whose words are read: messages in English."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "", **(extra or {})}


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    extra: Mapping[str, str] | None = None,
    data: bytes | None = None,
    timeout: float | None = None,
) -> bytes:
    """Run a program to its end; its standard output.  ToolError when it fails."""
    words = [str(word) for word in command]
    words[0] = str(need(words[0]))
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment(extra),
        input=b"" if data is None else data,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace")
        raise ToolError([Path(words[0]).name, *words[1:]], done.returncode, said)
    return done.stdout
