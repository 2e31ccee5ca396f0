# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil run`: one run of the suite on one board and kernel, from its folder to its reports."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from hil.errors import HilError
from hil.lab import board as boards
from hil.lab import cache, clients, kernels
from hil.lab.architectures import ARCHITECTURES
from hil.lab.expression import Expression
from hil.lab.progress import Line
from hil.lab.supervisor import IncompleteError, Supervisor, select
from hil.lab.virtual import Guest, VirtualBoard
from hil.report import html, junit
from hil.report.matrix import print_matrix
from hil.report.progress import Progress
from hil.runs.brief import briefs
from hil.runs.folder import RunFolder
from hil.runs.journal import Journal
from hil.runs.stream import Cells
from hil.runs.suite import DEADLINE

DEFAULT_BOARD = "virtual-x86"
DEFAULT_KERNEL = "debian:6.12"


class Options(NamedTuple):
    """What `hil run` was asked for."""

    board: str = DEFAULT_BOARD
    kernel: str = DEFAULT_KERNEL
    modules: tuple[str, ...] = ()
    keywords: str = ""
    marks: str = ""
    out: str = "results"
    resume: str = ""
    cell_timeout: float = DEADLINE
    cold: bool = False
    seed: int = 1
    """What the races' random numbers begin with."""
    destructive: bool = False
    """On this machine: conditions too that may harm it.  A virtual board has them anyway."""
    qemu: str = "host"
    """Which QEMU runs the guest: one of qemu_program.SOURCES."""
    clients: bool = False
    """Also run the board's test programs of others."""
    jobs: int = 0
    """Guests side by side; 0 is as many as the machine allows."""


def run(
    options: Options, command: Sequence[str], console: Console, *, own_kernel: bool = True
) -> int:
    """Run, report, and return the exit code: 0 all well or known, 1 bad, 3 not completed.

    ``own_kernel`` tells that the kernel was asked for and is not the default.

    HilError for what the user can mend; KeyboardInterrupt leaves the journal whole and the guest
    gone.
    """
    root = Path(options.out)
    folder = RunFolder.find(options.resume, root) if options.resume else None
    if folder is not None:
        options = _as_before(options, folder)
    board = boards.load(options.board)
    if board.kind == "local":
        return _run_here(options, own_kernel)
    with Line() as line:
        assert board.machine is not None
        arch = ARCHITECTURES[board.machine.arch].debian
        kernel = kernels.get(options.kernel, arch=arch, say=line)
        line(f"preparing {board.name} for {kernel.release}")
        virtual = VirtualBoard(
            board,
            kernel,
            [Path(m) for m in options.modules],
            cold=options.cold,
            qemu_from=options.qemu,
            marks=_collected(options.marks),
            say=line,
        )
        resumed = folder is not None
        if folder is None:
            folder = RunFolder.create(root, board=board.name, kernel=kernel.version)
        folder.update_meta(**_facts(options, command, virtual, folder))
        line("starting the guest")
        try:
            guest = virtual.start(folder.console)
        except BaseException:
            if not resumed:
                folder.update_meta(status="incomplete")
            raise
    return _judge_cells(options, virtual, guest, folder, console)


def _judge_cells(
    options: Options, virtual: VirtualBoard, guest: Guest, folder: RunFolder, console: Console
) -> int:
    with guest:
        chosen = select(guest, options.keywords, options.marks)
        if not chosen:
            folder.discard()
            raise _nothing_chosen(guest, options)
        done = folder.done()
        left = [cell for cell in chosen if cell not in done]
        meta = {**guest.suite, "cells": len(chosen), "seed": options.seed}
        folder.update_meta(**meta, status="incomplete")
        for line in _head(virtual, guest, folder, len(chosen), len(left)):
            console.print(line, highlight=False)
        status, note = "incomplete", ""
        with (
            Journal.open(folder.journal) as journal,
            Progress(console, len(left)) as progress,
        ):
            supervisor = Supervisor(
                virtual,
                journal,
                folder.console,
                progress,
                options.cell_timeout,
                seed=options.seed,
            )
            try:
                supervisor.run(guest, left, options.jobs or virtual.jobs(len(left)))
                status = "complete"
            except IncompleteError as error:
                note = f"{error}\nGo on with: {_resume(folder, options)}"
            except KeyboardInterrupt:
                status = "interrupted"
                note = f"interrupted; go on with: {_resume(folder, options)}"
            finally:
                folder.update_meta(
                    status=status,
                    starts=[*folder.read_meta().get("starts", []), *supervisor.starts],
                    finished=_now(),
                )
    if options.clients and status == "complete":
        with Line() as say:
            folder.update_meta(clients=clients.run(virtual, folder, say))
    finish(folder, console)
    for told in folder.read_meta().get("clients", ()):
        console.print(
            f"client, ended with {told['status']}: {told['command']}: {told['last_line'].strip()}",
            style="bold", highlight=False, markup=False,
        )  # fmt: skip
    if note:
        console.print(note, style="bold", highlight=False)
    if status == "interrupted":
        raise KeyboardInterrupt
    return folder.exit_code()


def _collected(marks: str) -> str:
    """What a guest that boots for this run alone need collect."""
    try:
        slow = not marks or Expression(marks).holds(lambda name: name in ("hw", "slow"))
    except ValueError:
        slow = True  # `select` will say what is wrong with it
    return "hw" if slow else "hw and not slow"


def _nothing_chosen(guest: Guest, options: Options) -> HilError:
    unmarked = len(select(guest, options.keywords, "")) if options.marks else 0
    hint = f"{unmarked} fit -k alone: add -m hw to run slow ones too.  " if unmarked else ""
    example = guest.cells[0] if guest.cells else "(no device found)"
    return HilError(
        f"none of the {len(guest.cells)} cells fits -k {options.keywords!r} -m {options.marks!r}",
        f"{hint}Cell ids look like {example}.",
    )


def _resume(folder: RunFolder, options: Options) -> str:
    out = "" if options.out == Options().out else f" --out {options.out}"
    return f"hil run --resume {folder.name}{out}"


def finish(folder: RunFolder, console: Console) -> None:
    """Make the reports of a run from its journal, and print the matrix."""
    with cache.full_disk_is_an_error(folder.path, "the reports"):
        junit.write(folder)
        html.write(folder)
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


def _facts(
    options: Options, command: Sequence[str], virtual: VirtualBoard, folder: RunFolder
) -> dict[str, Any]:
    before = folder.read_meta()
    return {
        "run": folder.name,
        "board": virtual.board.name,
        # Whole paths: the run may be resumed from another folder.
        "board_file": _whole(options.board) if options.board.endswith(".toml") else options.board,
        # The exact release: a resumed run must not wander on to a newer one.
        "kernel_spec": _pinned(options.kernel, virtual),
        "kernel": virtual.kernel.version,
        "command": " ".join(command),
        "selection": {
            "keywords": options.keywords,
            "marks": options.marks,
            "modules": [_whole(module) for module in options.modules],
            "qemu": options.qemu,
        },
        "versions": {
            "python": platform.python_version(),
            "qemu": virtual.qemu,
            "kernel": f"{virtual.kernel.release} {virtual.kernel.package_version}".strip(),
        },
        "acceleration": virtual.acceleration,
        "own_modules": [f"{m.name}: {m.file}" for m in virtual.own],
        "built_drivers": [built.told() for built in virtual.built],
        "corrected_modules": [c.told for c in virtual.corrected],
        "started": before.get("started") or _now(),
        "status": "incomplete",
    }


def _pinned(spec: str, virtual: VirtualBoard) -> str:
    kind, _, rest = spec.partition(":")
    if kind == "debian":
        return f"debian:{virtual.kernel.release}"
    names = [name for name in rest.split(",") if name] if kind == "deb" else [rest]
    return f"{kind}:{','.join(map(_whole, names))}"


def _whole(path: str) -> str:
    return str(Path(path).absolute())


def _head(
    virtual: VirtualBoard, guest: Guest, folder: RunFolder, chosen: int, left: int
) -> Iterator[str]:
    cells = f"{chosen} cells" if left == chosen else f"{left} of {chosen} cells left"
    left_out = len(guest.cells) - chosen
    more = f"; {left_out} others are not asked for (-k, -m)" if left_out else ""
    yield f"{virtual.board.name}: {virtual.qemu.partition(' (')[0]}, {virtual.acceleration}"
    yield f"Linux {virtual.kernel.version} ({virtual.kernel.release}): {cells}{more}"
    drivers: dict[tuple[str, str, str], list[str]] = {}
    for pinner in guest.suite["pinners"]:
        key = (pinner["driver"], pinner["allocator"], pinner["bus"])
        nodes = drivers.setdefault(key, [])
        if (node := Path(pinner["node"]).name) not in nodes:
            nodes.append(node)
    for (driver, allocator, bus), nodes in drivers.items():
        yield f"{driver} ({allocator}) on {bus}: {' '.join(nodes)}"
    for built in virtual.built:
        if built.corrections:
            yield f"{built.name} of {built.source}, corrected: {'; '.join(built.corrections)}"
    for model, how in zip(virtual.machine.silicon, virtual.transports, strict=True):
        yield f"device model {model.model}, reached by {how}"
    for copy in virtual.corrected:
        yield f"a corrected copy of a stock module is tested: {copy.told}"
    yield f"journal: {folder.journal}"


def _run_here(options: Options, own_kernel: bool) -> int:
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
    if options.resume:
        argv += [f"--resume={options.resume}"]
    status = subprocess.run(argv, cwd=boards.ROOT, check=False).returncode
    # pytest: 0 passed, 1 failed, 2 interrupted, 4 usage, 5 nothing selected
    return {0: 0, 1: 1, 4: 2, 5: 2}.get(status, 3)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
