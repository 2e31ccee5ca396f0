# SPDX-License-Identifier: GPL-2.0-or-later
"""A bisection's folder: what was asked, what the ends came to, every step.  It survives anything.

results/bisect-TIME-KIND/ has ``bisect.json``, ``steps.jsonl`` (one line a commit tested), and
``runs/``, a run folder for each of them.  The checkout and what is built lie in the cache.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.bisect.git import Repository
from hil.bisect.odds import Plan, Sample
from hil.bisect.sight import Sight, Wanted
from hil.errors import HilError
from hil.lab import cache
from hil.lab.runner import DEFAULT_BOARD, DEFAULT_KERNEL
from hil.runs.suite import DEADLINE
from hil.verdicts import Verdict

PREFIX = "bisect-"
POINTER = "hil-bisect"
"""The file in the worktree's git folder that names the state folder."""
_FORMAT = 1


@dataclass(frozen=True)
class Task:
    """What is looked for, and where.  Commits are whole ids."""

    kind: str
    """"module", "tree" or "releases"."""
    cell: str
    repository: str
    good: str
    bad: str
    names: dict[str, str] = field(default_factory=dict)
    """How the user called a commit; of releases each one's."""
    board: str = DEFAULT_BOARD
    kernel: str = DEFAULT_KERNEL
    """module: the kernel whose modules are replaced."""
    paths: tuple[str, ...] = ()
    config: str = ""
    """tree: a configuration fragment's path."""
    build: str = ""
    """tree: a command that builds, in place of make."""
    deploy: str = ""
    suite: str = ""
    verdicts: tuple[str, ...] = ()
    errno: str = ""
    confidence: float = 0.99
    repeat: int = 0
    """How often the cell runs on each commit; 0 is as often as its rate asks for."""
    measure: int = 80
    """How often at most it runs at an end."""
    cell_timeout: float = DEADLINE
    seed: int = 1
    qemu: str = "host"
    fix: bool = False
    """The good end is the newer one: what is looked for mended the cell."""

    @property
    def old(self) -> str:
        return self.bad if self.fix else self.good

    @property
    def new(self) -> str:
        return self.good if self.fix else self.bad

    @property
    def pathspec(self) -> tuple[str, ...]:
        """What git follows: commits that touch nothing of it are passed over."""
        return self.paths if self.kind == "module" else ()

    @property
    def wanted(self) -> Wanted:
        return Wanted(tuple(Verdict(name) for name in self.verdicts), self.errno)

    def name(self, commit: str) -> str:
        """For people: a release, or the user's word and the short id."""
        given = self.names.get(commit, "")
        short = commit[:12]
        if self.kind == "releases" and given:
            return given
        return f"{given} ({short})" if given and not commit.startswith(given) else short


@dataclass
class Step:
    """One commit tested."""

    commit: str
    sight: Sight
    sample: Sample
    why: str = ""
    verdicts: dict[str, int] = field(default_factory=dict)
    role: str = "step"
    """"good end", "bad end", "step" or "check"."""
    seconds: dict[str, float] = field(default_factory=dict)
    """``build``, ``run`` and ``all``."""
    run: str = ""
    """The run folder below runs/."""


class State:
    """One bisection on disk."""

    def __init__(
        self, folder: Path, task: Task, plan: Plan | None = None, answer: str = ""
    ) -> None:
        self.folder, self.task, self.plan = folder, task, plan
        self.answer = answer
        """The commit that it came to; empty while it goes on."""

    @property
    def runs(self) -> Path:
        """Where its run folders are."""
        return self.folder / "runs"

    @property
    def work(self) -> Path:
        """Checkout and builds: made anew when they are gone."""
        return cache.root() / "bisect" / self.folder.name

    @property
    def worktree(self) -> Repository:
        return Repository(self.work / "tree")

    @classmethod
    def create(cls, root: Path, task: Task) -> State:
        """A new folder below ``root``."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        number = 1
        while True:
            tail = "" if number == 1 else f"-{number}"
            folder = root / f"{PREFIX}{stamp}-{task.kind}{tail}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
                continue
            except OSError as error:
                raise HilError(
                    f"{folder}: {error.strerror}", "--out DIR sets the folder."
                ) from error
            state = cls(folder.absolute(), task)
            state.runs.mkdir()
            state.save()
            return state

    @classmethod
    def find(cls, name: str, root: Path) -> State:
        """The bisection ``name`` below ``root``, a path, or "latest"."""
        there = sorted(root.glob(f"{PREFIX}*/bisect.json"), key=lambda p: p.stat().st_mtime)
        if name == "latest":
            if not there:
                raise HilError(f"{root}/ holds no bisection", "Begin one: hil bisect --help")
            return cls.read(there[-1].parent)
        for folder in (root / name, Path(name)):
            if (folder / "bisect.json").is_file():
                return cls.read(folder)
        names = ", ".join(path.parent.name for path in there[-8:]) or "none"
        raise HilError(f"no bisection {name!r} in {root}/", f"There are: {names}.")

    @classmethod
    def read(cls, folder: Path) -> State:
        """The bisection of this folder; HilError when it is none."""
        kept = cache.read_json(folder / "bisect.json")
        if not isinstance(kept, dict) or kept.get("format") != _FORMAT:
            raise HilError(f"{folder} holds no bisection that this version can go on with")
        fields = {f.name: f for f in dataclasses.fields(Task)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in kept["task"].items()
            if name in fields
        }
        plan = Plan(*kept["plan"]) if kept.get("plan") else None
        return cls(folder.absolute(), Task(**values), plan, kept.get("answer", ""))

    def save(self) -> None:
        """Write what is not in steps.jsonl."""
        value = {
            "format": _FORMAT, "task": dataclasses.asdict(self.task),
            "plan": list(self.plan) if self.plan else None, "answer": self.answer,
        }  # fmt: skip
        cache.write_json(self.folder / "bisect.json", value)

    def add(self, step: Step) -> None:
        """Append a step, and have it on disk."""
        line = json.dumps(dataclasses.asdict(step), separators=(",", ":"))
        with (
            cache.full_disk_is_an_error(self.folder, "the bisection's steps"),
            (self.folder / "steps.jsonl").open("a") as file,
        ):
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def steps(self) -> list[Step]:
        """Every step so far; a torn last line is left out."""
        try:
            lines = (self.folder / "steps.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                kept: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            kept["sight"], kept["sample"] = Sight(kept["sight"]), Sample(*kept["sample"])
            found.append(Step(**kept))
        return found

    def seen(self, *roles: str) -> dict[str, Sample]:
        """All runs of each commit that told something; of some roles, or of all."""
        found: dict[str, Sample] = {}
        for step in self.steps():
            if step.sight is not Sight.UNTOLD and (not roles or step.role in roles):
                found[step.commit] = found.get(step.commit, Sample()) + step.sample
        return found


def candidates(state: State) -> list[str]:
    """The commits that may be the answer, newest first."""
    task = state.task
    return state.worktree.commits(task.old, task.new, task.pathspec)
