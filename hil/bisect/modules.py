# SPDX-License-Identifier: GPL-2.0-or-later
"""A commit's modules, built against a stock kernel's headers in one work folder.

Only files whose content changed are written, so that kbuild makes only what is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hil.bisect.git import Repository, Tree
from hil.errors import HilError
from hil.lab import cache, modules
from hil.lab.board import Board
from hil.lab.drivers import kbuild, sources, toolchain
from hil.lab.drivers.kbuild import BuildError
from hil.lab.drivers.toolchain import Compiler
from hil.lab.kernels import Kernel
from hil.lab.progress import Say

_INDEX = ".hil-files.json"
_TREE = "tree"
_LINK = "120000"


class UnbuildableError(Exception):
    """This commit does not build; the text is the compiler's first word."""


class Workshop:
    """Builds the modules of some folders of the kernel's source."""

    def __init__(self, work: Path, kernel: Kernel, board: Board, paths: Sequence[str]) -> None:
        self.work, self.kernel = work / "build", kernel
        self.paths = [path.strip("/") for path in paths]
        self._needed = set(modules.closure(kernel, board.guest.drivers).names)
        self._stock = set(modules.index(kernel).files)

    def build(self, repository: Repository, commit: str, say: Say) -> list[Path]:
        """The modules of ``commit`` that the board needs, stripped; UnbuildableError.

        Where the board needs none of them, all: they come in addition.
        """
        headers = sources.headers(self.kernel, say)
        compiler = toolchain.find(self.kernel)
        files = repository.files(commit, self.paths)
        if not any(Path(file.path).name in ("Makefile", "Kbuild") for file in files):
            raise UnbuildableError(f"no Makefile below {', '.join(self.paths)} in this commit")
        with cache.full_disk_is_an_error(self.work, "building modules"):
            self._lay(repository, files)
        say(f"building {commit[:12]} for {self.kernel.release}")
        options = [f"{name}=" for name in self._left_out(files)]
        try:
            made = kbuild.modules(headers, self.work / _TREE, compiler, options)
        except BuildError as error:
            if error.disk_full:
                raise cache.no_space(self.work, "building modules") from error
            raise UnbuildableError(str(error)) from error
        return self._stripped(made, compiler)

    def _lay(self, repository: Repository, files: Sequence[Tree]) -> None:
        """Bring the work folder to the state of a commit."""
        top = self.work / _TREE
        top.mkdir(parents=True, exist_ok=True)
        kept = cache.read_json(self.work / _INDEX)
        before: dict[str, str] = kept if isinstance(kept, dict) else {}
        after = {file.path: file.blob for file in files}
        changed = [file for file in files if before.get(file.path) != file.blob]
        # What is about to change is not in the index: whoever is killed here writes it anew.
        cache.write_json(self.work / _INDEX, {p: b for p, b in before.items() if after.get(p) == b})
        for gone in set(before) - set(after):
            (top / gone).unlink(missing_ok=True)
        data = repository.blobs(file.blob for file in changed)
        for file in changed:
            place = top / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            if file.mode == _LINK:
                place.symlink_to(data[file.blob].decode())
            else:
                place.write_bytes(data[file.blob])
        folders = [path for path in self.paths if not path.startswith("include")]
        kbuild = "".join(f"obj-m += {path}/\n" for path in folders)
        if len(folders) < len(self.paths):  # the commit's own headers go before the kernel's
            kbuild = f"LINUXINCLUDE := -I{top}/include $(LINUXINCLUDE)\n{kbuild}"
        if not (top / "Kbuild").exists() or (top / "Kbuild").read_text() != kbuild:
            (top / "Kbuild").write_text(kbuild)
        cache.write_json(self.work / _INDEX, after)

    def _left_out(self, files: Sequence[Tree]) -> list[str]:
        """Options of modules that the kernel ships and the board does not load."""
        found: dict[str, bool] = {}
        for file in files:
            if Path(file.path).name not in ("Makefile", "Kbuild"):
                continue
            text = (self.work / _TREE / file.path).read_text(errors="replace").replace("\\\n", " ")
            for option, made in re.findall(
                r"^obj-\$\((CONFIG_\w+)\)\s*[+:]?=(.*)$", text, re.MULTILINE
            ):
                names = {modules.name_of(word.removesuffix(".o")) for word in made.split()}
                spare = names <= self._stock and not names & self._needed
                found[option] = found.get(option, True) and spare
        return [option for option, spare in found.items() if spare]

    def _stripped(self, made: Sequence[Path], compiler: Compiler) -> list[Path]:
        wanted = [path for path in made if modules.name_of(path) in self._needed] or made
        if not wanted:
            raise UnbuildableError("make was content, but made no module")
        place = self.work / "stripped"
        place.mkdir(exist_ok=True)
        found = []
        for path in wanted:
            file = place / path.name
            if not file.exists() or file.stat().st_mtime_ns < path.stat().st_mtime_ns:
                kbuild.strip(compiler, path, file)
            found.append(file)
        return found


def check(files: Sequence[Path], kernel: Kernel) -> list[modules.Own]:
    """The modules as this kernel takes them; UnbuildableError when it would refuse one."""
    try:
        return modules.check_all(files, kernel)
    except HilError as error:
        raise UnbuildableError(error.message) from error
