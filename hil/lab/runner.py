# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil run`: the suite on one board with one or many kernels, from their folders to the reports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hil.errors import HilError
from hil.lab import board as boards
from hil.lab import cache, series
from hil.lab.architectures import ARCHITECTURES
from hil.lab.fleet import Fleet, side_by_side
from hil.lab.kernel_run import (
    DEFAULT_BOARD,
    DEFAULT_KERNEL,
    KernelRun,
    Options,
    resume,
    write_reports,
)
from hil.lab.progress import Line
from hil.report.across import print_across, write_across
from hil.report.matrix import print_matrix
from hil.report.progress import Progress
from hil.runs.brief import briefs
from hil.runs.folder import RunFolder
from hil.runs.stream import Cells

__all__ = ["DEFAULT_BOARD", "DEFAULT_KERNEL", "Options", "run"]


def run(
    options: Options,
    command: Sequence[str],
    console: Console,
    *,
    kernels: Sequence[str] = (),
    resumed: Sequence[str] = (),
) -> int:
    """Run, report, and return the exit code: 0 all well or known, 1 bad, 3 not completed.

    ``kernels`` are specs, ranges or "all"; none is ``options.kernel``.  ``resumed`` names runs to
    go on with.  Of several the worst counts, 2 being one that could not be had.

    HilError for what the user can mend; KeyboardInterrupt leaves the journals whole and the guests
    gone.
    """
    jobs: list[tuple[Options, RunFolder | None]]
    lacking: list[series.Lacking] = []
    if resumed:
        folders = [RunFolder.find(name, Path(options.out)) for name in dict.fromkeys(resumed)]
        jobs = [(_as_before(options, folder), folder) for folder in folders]
    else:
        jobs = [(options, None)]
    loaded = [boards.load(one.board) for one, _ in jobs]
    if any(board.kind == "local" for board in loaded):
        if len(jobs) > 1:
            raise HilError("a run on this machine is resumed alone", "Name one --resume.")
        return _run_here(jobs[0][0], own_kernel=bool(kernels), resume=(*resumed, "")[0])
    machines = [board.machine for board in loaded if board.machine is not None]
    if not resumed:
        with Line() as line:
            arch = ARCHITECTURES[machines[0].arch].debian
            specs, lacking = series.expand(kernels or [options.kernel], arch=arch, say=line)
        jobs = [(options._replace(kernel=spec), None) for spec in specs]
    for one in lacking:
        console.print(f"not to be had: {one.series}: {one.reason}", highlight=False)
    places = options.jobs or side_by_side(machines)
    with Progress(console, 0, kernels=len(jobs)) as progress:
        runs = [
            KernelRun(own, command, progress, places=places, folder=folder) for own, folder in jobs
        ]
        night = _Night(console, progress, runs, lacking)
        try:
            Fleet(runs, places).run(night.over)
        except KeyboardInterrupt:
            night.interrupted = True
    return night.told_alone() if len(runs) == 1 else night.told()


class _Night:
    """What came of the runs, told as each ends and at the end."""

    def __init__(
        self,
        console: Console,
        progress: Progress,
        runs: Sequence[KernelRun],
        lacking: Sequence[series.Lacking],
    ) -> None:
        self.console, self.progress = console, progress
        self.runs, self.lacking = runs, lacking
        self.interrupted = False
        self._errors: dict[str, HilError] = {}
        self._reported: set[str] = set()

    def over(self, run: KernelRun, error: BaseException | None) -> None:
        """One of the runs has ended; raises what is not its own affair."""
        run.ended()
        if isinstance(error, HilError) and len(self.runs) > 1:
            self._errors[run.title] = error
            print(f"hil: {run.title}: {error}", file=sys.stderr, flush=True)
        elif error is not None:
            raise error
        if len(self.runs) > 1:
            self._report(run)

    def _report(self, run: KernelRun) -> None:
        if run.title not in self._reported:
            self._reported.add(run.title)
            run.reports()

    def told_alone(self) -> int:
        """Of the one run: the matrix, and how to see more or go on."""
        (run,) = self.runs
        status = 3
        if run.begun and (folder := run.folder) is not None:
            finish(folder, self.console)
            status = folder.exit_code()
            for told in folder.read_meta().get("clients", ()):
                self.console.print(
                    f"client, ended with {told['status']}: {told['command']}: "
                    f"{told['last_line'].strip()}",
                    style="bold", highlight=False, markup=False,
                )  # fmt: skip
        if run.note:
            self.console.print(run.note, style="bold", highlight=False)
        self._interrupted()
        return status

    def told(self) -> int:
        """Of several runs: a row each, and what is left to do."""
        for run in self.runs:
            self._report(run)
        begun = [run.folder for run in self.runs if run.begun and run.folder is not None]
        if begun:
            print_across(self.console, begun)
            page = begun[0].path.with_name(f"{begun[0].name[:15]}-kernels.html")
            with cache.full_disk_is_an_error(page.parent, "the page of all kernels"):
                write_across(begun, page)
            self._say(f"{page}  (hil show RUN CELL: all evidence of a cell)")
        for run in self.runs:
            if run.begun:
                self._say(f"{run.title}: {run.told}")
            elif (error := self._errors.get(run.title)) is not None:
                self._say(f"{run.title}: nothing judged: {error.message.partition(chr(10))[0]}")
        for one in self.lacking:
            self._say(f"{one.series}: not to be had: {one.reason}")
        for run in self.runs:
            if run.note:
                self._say(f"{run.title}: {run.note}", "bold")
        self._interrupted()
        return max(
            self._errors[run.title].status if run.title in self._errors else run.exit_code
            for run in self.runs
        )

    def _interrupted(self) -> None:
        if not self.interrupted:
            return
        begun = [run for run in self.runs if run.begun and run.status == "interrupted"]
        if begun:
            self._say(f"interrupted; go on with: {resume(begun)}", "bold")
        rest = [run for run in self.runs if not run.begun and run.title not in self._errors]
        if rest and len(self.runs) > 1:
            options = rest[0].options
            words = ["hil run", *(f"--kernel {run.options.kernel}" for run in rest)]
            words += [f"--out {options.out}"] if options.out != Options().out else []
            self._say(f"not begun: {' '.join(words)}, and your other options", "bold")
        raise KeyboardInterrupt

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style or None, highlight=False, soft_wrap=True)


def finish(folder: RunFolder, console: Console) -> None:
    """Make the reports of a run from its journal, and print the matrix."""
    write_reports(folder)
    print_matrix(console, briefs(Cells(folder.journal)), folder.read_meta())
    console.print(f"{folder.html}  (hil show {folder.name} CELL: all evidence of a cell)",
                  highlight=False, soft_wrap=True)  # fmt: skip


def _as_before(options: Options, folder: RunFolder) -> Options:
    """A resumed run goes on with the board, kernel and selection that it began with."""
    meta = folder.read_meta()
    if "kernel_spec" not in meta:
        raise HilError(f"{folder.path} has no run.json of a run", "Start a new run: hil run")
    selection = meta.get("selection", {})
    return options._replace(
        board=meta.get("board_file", meta["board"]),
        kernel=meta["kernel_spec"],
        modules=tuple(selection.get("modules", ())),
        keywords=selection.get("keywords", ""),
        marks=selection.get("marks", ""),
        seed=meta.get("seed", 1),
        qemu=selection.get("qemu", "host"),
    )


def _run_here(options: Options, own_kernel: bool, resume: str = "") -> int:
    """The board is this machine: the suite itself, as `pytest -m hw` runs it."""
    if own_kernel or options.modules or options.cold:
        raise HilError(
            f"board {options.board} is this machine: it runs the kernel and modules that it runs",
            "Leave out --kernel, --module and --cold, or take a virtual board.",
        )
    marks = f"hw and ({options.marks})" if options.marks else "hw"
    argv = [
        sys.executable, "-m", "pytest", "-m", marks, f"--board={options.board}",
        f"--results={Path(options.out).absolute()}", f"--cell-timeout={options.cell_timeout}",
        f"--seed={options.seed}",
        "tests/hw",
    ]  # fmt: skip
    if options.keywords:
        argv += ["-k", options.keywords]
    if options.destructive:
        argv += ["--destructive"]
    if resume:
        argv += [f"--resume={resume}"]
    status = subprocess.run(argv, cwd=boards.ROOT, check=False).returncode
    # pytest: 0 passed, 1 failed, 2 interrupted, 4 usage, 5 nothing selected
    return {0: 0, 1: 1, 4: 2, 5: 2}.get(status, 3)
