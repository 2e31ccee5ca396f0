# SPDX-License-Identifier: GPL-2.0-or-later
"""git, as far as a bisection needs it.

A bisection works in a worktree of its own: `git bisect` keeps its state for each worktree, so the
user's checkout, and a bisection that goes on in it, stay as they are.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import hosttools


class GitError(HilError):
    """git refused; the message is its own."""


class Tree(NamedTuple):
    """A file of a commit."""

    mode: str
    blob: str
    path: str


class Repository:
    """git in one folder: a repository, or one of its worktrees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str | Path, data: bytes | None = None) -> str:
        """What git prints, without the last newline; GitError."""
        return self.raw(*words, data=data).decode(errors="replace").rstrip("\n")

    def raw(self, *words: str | Path, data: bytes | None = None) -> bytes:
        """`run` in bytes."""
        done = subprocess.run(
            command(self.folder, *words), env=environment(), input=data or b"",
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise GitError(f"git {words[0]} in {self.folder}: {said or done.returncode}")
        return done.stdout

    def asks(self, *words: str | Path) -> bool:
        """Whether git ends with status 0."""
        done = subprocess.run(
            command(self.folder, *words), env=environment(), stdin=subprocess.DEVNULL,
            capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0

    @classmethod
    def at(cls, folder: Path) -> Repository:
        """The repository that ``folder`` lies in; HilError when it lies in none."""
        if not folder.is_dir():
            raise HilError(f"--tree {folder}: no such folder", "Expected is a git tree.")
        found = cls(folder)
        try:
            found.run("rev-parse", "--git-dir")
        except GitError as error:
            raise HilError(
                f"--tree {folder} is no git repository to use: {error.message}",
                "Expected is a clone of the kernel, or of a driver laid out as in the kernel.",
            ) from error
        return found

    def commit(self, name: str, what: str) -> str:
        """The whole id of a commit; HilError when the repository has none of that name."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except GitError:
            raise HilError(
                f"{what} {name}: {self.folder} has no such commit",
                "Give a tag, a branch or a commit's id; `git fetch` may bring it.",
            ) from None

    def descends(self, commit: str, ancestor: str) -> bool:
        return self.asks("merge-base", "--is-ancestor", ancestor, commit)

    def commits(self, old: str, new: str, paths: Sequence[str]) -> list[str]:
        """The commits after ``old`` up to ``new`` that touch ``paths``, newest first."""
        return self.run("rev-list", f"{old}..{new}", "--", *paths).split()

    def told(self, commit: str) -> str:
        """Short id and subject."""
        return self.run("show", "-s", "--format=%h %s", commit)

    def files(self, commit: str, paths: Sequence[str]) -> list[Tree]:
        """The files of a commit below ``paths``."""
        found = []
        for entry in self.run("ls-tree", "-r", "-z", commit, "--", *paths).split("\0"):
            about, tab, path = entry.partition("\t")
            if tab:
                mode, kind, blob = about.split()
                if kind == "blob":
                    found.append(Tree(mode, blob, path))
        return found

    def blobs(self, ids: Iterable[str]) -> dict[str, bytes]:
        """The bytes of blobs."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        data = self.raw("cat-file", "--batch", data="".join(f"{i}\n" for i in wanted).encode())
        found, position = {}, 0
        for _ in wanted:
            end = data.index(b"\n", position)
            blob, _, size = data[position:end].decode().split()
            start = end + 1
            found[blob] = data[start : start + int(size)]
            position = start + int(size) + 1
        return found

    def add_worktree(self, folder: Path, commit: str, *, checkout: bool) -> Repository:
        """A worktree at ``commit``; without ``checkout`` an empty one."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        how = [] if checkout else ["--no-checkout"]
        self.run("worktree", "add", "--quiet", "--detach", *how, folder, commit)
        return Repository(folder)

    def remove_worktree(self, folder: Path) -> None:
        """Remove a worktree, changed or not, and what git knows of it."""
        if folder.exists():
            self.asks("worktree", "remove", "--force", "--force", folder)
        self.asks("worktree", "prune")

    def git_file(self, name: str) -> Path:
        """The file of this worktree's git folder."""
        path = Path(self.run("rev-parse", "--git-path", name))
        return path if path.is_absolute() else self.folder / path


def command(folder: Path, *words: str | Path) -> list[str]:
    """git's command line; the repository's hooks are for its user's own work."""
    git = hosttools.need("git")
    return [str(git), "-C", str(folder), "-c", f"core.hooksPath={os.devnull}", *map(str, words)]


def environment() -> dict[str, str]:
    """Without what a git around us, such as a hook's, has set for itself."""
    mine = hosttools.environment({"GIT_OPTIONAL_LOCKS": "0"})
    local = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
    return {k: v for k, v in mine.items() if k not in local}


def made_history(folder: Path, names: Sequence[str]) -> tuple[Repository, list[str]]:
    """A repository with an empty commit for each name, in a line; and the commits' ids."""
    folder.mkdir(parents=True, exist_ok=True)
    repository = Repository(folder)
    repository.run("init", "--quiet")
    who = ["-c", "user.name=hil", "-c", "user.email=hil@localhost"]
    tree = repository.run("hash-object", "-t", "tree", "-w", os.devnull)
    commits: list[str] = []
    for name in names:
        parents = ["-p", commits[-1]] if commits else []
        commits.append(repository.run(*who, "commit-tree", tree, *parents, "-m", name))
    repository.run("update-ref", "HEAD", commits[-1])
    return repository, commits
