# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured, part by part: each yields its figures."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from rich.console import Console

from bench import beside, guest, lab
from bench.neighbours import Neighbours
from bench.page import Figure
from hil.lab import board as boards
from hil.lab import initramfs, kernels, ram, rootfs, snapshot, vmlinux
from hil.lab.runner import finish
from hil.lab.virtual import VirtualBoard
from hil.runs.folder import RunFolder

ONE = "v4l2-vivid-video0/anonymous/capture/steady"
NODE = "/dev/video0"
OTHER = "v4l2-vivid-video0/shared-anonymous/capture/steady"
GIGANTIC = "v4l2-vivid-video0/hugetlb-1g-private/capture/steady"
TWO_HUNDRED = "steady and (video0/ or video1/ or (video0-prepare/ and memfd))"
LOSING = ("panic", "vanish", "spin", "stuck", "freeze")


Given = ParamSpec("Given")
Value = TypeVar("Value")


class Job(NamedTuple):
    """What every part gets."""

    kernel: str
    runs: int
    turns: int
    folder: Path
    say: Callable[[str], None]
    neighbours: Neighbours

    def alone(
        self, work: Callable[Given, Value], *these: Given.args, **those: Given.kwargs
    ) -> Value:
        """Do the work while this machine runs no other guest."""
        return self.neighbours.undisturbed(lambda: work(*these, **those))

    def place(self, name: str) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))


def figure(key: str, title: str, unit: str, values: list[float], **more: Any) -> Figure:
    """Round to what can be told apart."""
    return Figure(key, title, unit, tuple(round(value, 4) for value in values), **more)


def starts(job: Job) -> Iterator[Figure]:
    """QEMU start to the first cell."""
    choice = ONE
    place = job.place("starts")
    job.say("warming up")
    lab.hil_run(place, "--kernel", job.kernel, "-k", choice)
    for how, title, target, flags in (
        ("cold", "first cell, cold", 6.0, ("--cold",)),
        ("snapshot", "first cell, from the snapshot", 1.0, ()),
    ):
        seconds, walls = [], []
        for i in range(job.runs):
            job.say(f"{title} {i + 1}/{job.runs}")
            arguments = ("--kernel", job.kernel, "-k", choice, *flags)
            run = job.alone(lab.hil_run, place, *arguments)
            first = run.meta["starts"][0]
            if first["how"] != how:
                raise RuntimeError(f"the guest started {first['how']}, not {how}")
            seconds.append(first["seconds"])
            walls.append(run.wall)
        command = " ".join(["hil run", *flags, "-k", choice])
        yield figure(f"start-{how}", title, "s", seconds, target=target, command=command,
                     beside="virtme-first")  # fmt: skip
        overhead = [wall - second for wall, second in zip(walls, seconds, strict=True)]
        yield figure(f"rest-{how}", f"the rest of `{command}`", "s", overhead)
        yield figure(f"run-{how}", f"the whole of `{command}`", "s", walls, beside="virtme-whole")


def virtme(job: Job) -> Iterator[Figure]:
    """virtme-ng with the same kernel."""
    kernel = kernels.get(job.kernel)
    cpus = 2
    place = job.place("virtme")
    first: list[float] = []
    whole: list[float] = []
    failed = 0
    job.say("installing virtme-ng")
    beside.install()
    while len(first) < job.runs and failed <= 2 * job.runs:
        job.say(f"virtme-ng {len(first) + 1}/{job.runs}")
        run = job.alone(beside.run, kernel.vmlinuz, cpus, place)
        if run.first_command is None:
            (place / f"failed-{failed}.txt").write_text(run.output)
            failed += 1
            continue
        first.append(run.first_command)
        whole.append(run.whole)
    if not first:
        raise RuntimeError(f"virtme-ng never came to its command; its output is in {place}")
    command = " ".join(beside.command("VMLINUZ", cpus))
    yield figure("virtme-first", "virtme-ng, first command", "s", first, command=command)
    yield figure("virtme-whole", "virtme-ng, the whole run", "s", whole)
    if failed:
        yield figure("virtme-failed", "virtme-ng guests that never came to it", "", [failed])


def lost_once(job: Job, ready: VirtualBoard, order: list[str]) -> list[lab.Lost]:
    """One run with cells that cost their guests, in a folder of its own."""
    return lab.lost(ready, order, job.place("lost-run"), 1.0)


def losses(job: Job) -> Iterator[Figure]:
    """From the verdict on a cell that cost its guest to the begin of the next."""
    place = job.place("lost")
    names = ", ".join(f'"{name}"' for name in (*LOSING, "steady"))
    board = lab.board(place, more=f"\n[suite]\nconditions = [{names}]\n")
    ready = lab.get(board, job.kernel)
    job.say("a snapshot of a board that misbehaves")
    ready.start(place / "console.log").close()
    cell = OTHER.rpartition("/")[0]
    times: dict[str, list[lab.Lost]] = {name: [] for name in LOSING}
    for i in range(job.runs):
        job.say(f"guests that crash and hang {i + 1}/{job.runs}")
        order = [f"{cell}/{name}" for name in (*LOSING, "steady")]
        for one in job.alone(lost_once, job, ready, order):
            times[one.cell.rpartition("/")[2]].append(one)
    titles = {
        "panic": "after a panic",
        "vanish": "after a reset without a word",
        "spin": "after a cell that hung and was killed",
        "stuck": "after a cell that can't be killed",
        "freeze": "after a guest that hung as a whole",
    }
    for name, found in times.items():
        yield figure(f"lost-{name}", f"next cell {titles[name]}", "s", [f.to_next for f in found],
                     target=2.0)  # fmt: skip
    for name, what in (
        ("panic", "begin to verdict of the cell that panics"),
        ("vanish", "begin to verdict of the cell that resets"),
        ("freeze", "begin to verdict of the cell that freezes the guest (--cell-timeout 1)"),
    ):
        yield figure(f"verdict-{name}", what, "s", [found.to_verdict for found in times[name]])


def cells(job: Job) -> Iterator[Figure]:
    """About 200 different cells."""
    place = job.place("cells")
    runs = []
    for i in range(job.runs + 1):
        job.say(f"200 cells {i}/{job.runs}" if i else "200 cells, to warm up")
        arguments = ("--kernel", job.kernel, "-k", TWO_HUNDRED)
        runs.append(job.alone(lab.hil_run, place, *arguments))
    runs = runs[1:]
    count = len(runs[0].records)
    scale = 200 / count
    command = f"hil run -k '{TWO_HUNDRED}'   # {count} cells"
    judged = [sum(record["seconds"] for record in run.records) for run in runs]
    yield figure("cells-whole", "the whole command, for 200 cells", "s",
                 [run.wall * scale for run in runs], target=20.0, command=command)  # fmt: skip
    yield figure(
        "cells-judged",
        "sum of the own time of 200 cells, in all guests",
        "s",
        [j * scale for j in judged],
    )
    yield figure("cell-mean", "the whole command, divided by its cells", "ms",
                 [run.wall / count * 1000 for run in runs])  # fmt: skip
    medians = [statistics.median(r["seconds"] for r in run.records) * 1000 for run in runs]
    yield figure("cell-median", "the median cell of a run", "ms", medians)
    reports = []
    for run in runs:
        began = time.monotonic()
        finish(RunFolder(run.folder), Console(file=io.StringIO()))
        reports.append(time.monotonic() - began)
    yield figure("reports", "JUnit, HTML and matrix of such a run", "s", reports)
    each: dict[str, list[float]] = {}
    for run in runs:
        for record in run.records:
            each.setdefault(record["cell"], []).append(record["seconds"])
    slowest = sorted(each.items(), key=lambda item: -statistics.median(item[1]))[:5]
    for name, seconds in slowest:
        yield figure(f"slowest-{name}", f"`{name}`", "ms", [s * 1000 for s in seconds])


def alternating(job: Job, ready: VirtualBoard, place: Path, turns: int) -> lab.Cells:
    """The cell under measurement, every other one another: pytest runs none twice in a row."""
    return job.alone(lab.cells, ready, [ONE, OTHER] * turns, place / "console.log")


def of_one(found: lab.Cells, name: str = ONE) -> tuple[float, float]:
    """Median milliseconds of a cell's own time and from begin to begin."""
    mine = [i for i, cell in enumerate(found.names) if cell == name]
    return (
        statistics.median(found.own[i] for i in mine) * 1000,
        statistics.median(found.whole[i] for i in mine) * 1000,
    )


def yardstick(job: Job, ready: VirtualBoard, *, compliance: bool) -> guest.Yardstick:
    """The C program, and v4l2-compliance, in a guest of their own."""
    return job.alone(lambda: guest.measure(ready, job.place("yardstick"), NODE, job.turns, job.runs,
                                           compliance=compliance))  # fmt: skip


def one(job: Job) -> Iterator[Figure]:
    """One cell, a C program that does the same, and v4l2-compliance."""
    place = job.place("one")
    ready = lab.get(boards.load("virtual-x86"), job.kernel)
    job.say("a snapshot")
    ready.start(place / "console.log").close()
    own, whole = [], []
    for i in range(job.runs):
        job.say(f"{job.turns} times the same cell {i + 1}/{job.runs}")
        a, b = of_one(alternating(job, ready, place, job.turns))
        own.append(a)
        whole.append(b)
    job.say("the C program and v4l2-compliance in a guest of their own")
    found = yardstick(job, ready, compliance=True)
    command = "cell /dev/video0 TURNS   # bench/cell.c"
    full = [statistics.median(turns) / 1000 for turns in found.cell]
    bare = [statistics.median(turns) / 1000 for turns in found.bare]
    yield figure("c", "C program with the evidence", "ms", full, command=command)
    yield figure("c-bare", "C program: open, touch, queue, close", "ms", bare)
    yield figure("cell", "a cell, order to verdict", "ms", own, beside="c", ratio_target=3.0,
                 command=f"{ONE}, {job.turns} times in a guest")  # fmt: skip
    yield figure("cell-whole", "a cell, begin to begin", "ms", whole, beside="c", ratio_target=3.0)
    yield figure("compliance", "v4l2-compliance, one memory class (malloc)", "s", found.compliance,
                 command="v4l2-compliance -s 5 -d /dev/video0   # 1.22.1")  # fmt: skip
    rate = [c / (w / 1000) for c, w in zip(found.compliance, whole, strict=True)]
    yield figure("compliance-cells", "cells in the time of one v4l2-compliance", "", rate)


def boot(job: Job) -> Iterator[Figure]:
    """The stages of a cold start, sizes, and what making each part costs."""
    place = job.place("boot")
    board = boards.load("virtual-x86")
    cold = lab.get(board, job.kernel, cold=True)
    found = []
    for i in range(job.runs):
        job.say(f"stages of a cold start {i + 1}/{job.runs}")
        found.append(job.alone(lab.start, cold, ONE, place / "console.log"))
    for stage, title in (
        ("started", "guest uptime: Python started"),
        ("imported", "guest uptime: pytest and the suite imported"),
        ("configured", "guest uptime: drivers there, nodes found"),
        ("cells", "guest uptime: cells known"),
        ("collected", "guest uptime: cells collected, file systems mounted"),
    ):
        yield figure(f"uptime-{stage}", title, "s", [s.uptimes[stage] for s in found])
    yield figure("cold-ready", "QEMU start to collected", "s", [s.ready for s in found])
    warm = lab.get(board, job.kernel)
    warm.start(place / "console.log").close()
    found = [
        job.alone(lab.start, warm, ONE, place / "console.log") for _ in range(max(job.runs, 5))
    ]
    yield figure("restored", "QEMU start to restored", "s", [s.ready for s in found])
    yield figure("restored-first", "QEMU start to first cell, restored", "s",
                 [s.first_cell for s in found])  # fmt: skip
    files = {"image": warm.root.image, "initramfs": warm.boot.initramfs,
             "kernel, unpacked": warm.boot.kernel}  # fmt: skip
    for name, path in files.items():
        yield figure(f"size-{name}", f"size: {name}", "MB", [path.stat().st_size / 1e6])
    made = snapshot.find(warm.key)
    if made is not None:
        blocks = sum(f.stat().st_blocks * 512 for f in made.folder.iterdir())
        yield figure("size-snapshot", "size: snapshot, on disk", "MB", [blocks / 1e6])
    yield from building(job, board, cold)


def building(job: Job, board: boards.Board, cold: VirtualBoard) -> Iterator[Figure]:
    """Make every part anew in a cache of its own."""
    job.say("making the parts anew")
    place = job.place("cache")
    shared = ("archive", "kernels", "kvm", "packages", "sha256")
    times: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        value = work()
        times[name] = time.monotonic() - began
        return value

    with lab.fresh_cache(place, shared):
        root = timed("guest image", lambda: rootfs.get(cold.machine.arch))
        timed("kernel, unpacked", lambda: vmlinux.get(cold.kernel))
        timed("initramfs", lambda: initramfs.get(board, cold.kernel, root, [], ()))
        timed("file systems", lambda: [ram.filesystem(p, root) for p in cold.machine.pmem])
        anew = lab.get(board, job.kernel)
        timed("snapshot, boot included", lambda: anew.start(place / "console.log")).close()
    for name, seconds in times.items():
        yield figure(f"build-{name}", f"making: {name}", "s", [seconds])


def claims(job: Job) -> Iterator[Figure]:
    """What each of the measures brings: the same without it."""
    place = job.place("claims")
    board = boards.load("virtual-x86")
    assert board.machine is not None
    model = f'cpu-emulated = "{board.machine.cpu_emulated}"'
    cpus = f"cpus-for-cells = {board.machine.cpus_for_cells}"
    variants = {
        "as it is": ("", ""),
        "with ERMS and FSRM": (model, model.replace(",-erms,-fsrm", "")),
        "with LA57": (model, model.replace(",-la57", "")),
        "with all CPUs": (cpus, f"cpus-for-cells = {board.machine.cpus}"),
    }
    ready = {}
    for name, (old, new) in variants.items():
        job.say(f"a snapshot {name}")
        ready[name] = lab.get(lab.board(job.place("variant"), old, new), job.kernel)
        ready[name].start(place / "console.log").close()
    own: dict[str, list[float]] = {name: [] for name in variants}
    gigantic: dict[str, list[float]] = {name: [] for name in variants}
    bare: dict[str, list[float]] = {}
    for i in range(job.runs):  # in turn, so that a busy while of the machine hits all of them
        for name, variant in ready.items():
            job.say(f"{name} {i + 1}/{job.runs}")
            own[name].append(of_one(alternating(job, variant, place, job.turns))[0])
            console = place / "console.log"
            found = job.alone(lab.cells, variant, [ONE, GIGANTIC] * 3, console)
            gigantic[name].append(of_one(found, GIGANTIC)[0])
    for name, variant in ready.items():
        job.say(f"the C program {name}")
        turns = yardstick(job, variant, compliance=False)
        bare[name] = [statistics.median(times) / 1000 for times in turns.bare]
    for key, what, times_of in (
        ("cell", "a cell", own),
        ("1g", "hugetlb-1g-private", gigantic),
        ("bare", "C program: open, touch, queue, close", bare),
    ):
        for name in variants:
            beside_ = "" if name == "as it is" else f"claim-{key}-as it is"
            yield figure(f"claim-{key}-{name}", f"{what}, {name}", "ms", times_of[name],
                         beside=beside_)  # fmt: skip
    cold = lab.get(board, job.kernel, cold=True)
    packed = lab.get(board, job.kernel, cold=True)
    packed.boot = packed.boot._replace(kernel=packed.kernel.vmlinuz)
    full = lab.get(lab.board(place, model, 'cpu-emulated = "max"'), job.kernel, cold=True)
    boards_ = {"elf": cold, "bzimage": packed, "max": full}
    seconds: dict[str, list[float]] = {key: [] for key in boards_}
    for i in range(job.runs):
        for key, variant in boards_.items():
            job.say(f"cold start, {key} {i + 1}/{job.runs}")
            console = place / "console.log"
            found_ = job.alone(lab.start, variant, ONE, console)
            seconds[key].append(found_.first_cell)
    for key, title in (
        ("elf", "cold start, as it is"),
        ("bzimage", "cold start of the bzImage"),
        ("max", 'cold start, cpu-emulated = "max"'),
    ):
        beside_ = "" if key == "elf" else "claim-elf"
        yield figure(f"claim-{key}", title, "s", seconds[key], beside=beside_)


PARTS: dict[str, tuple[str, Callable[[Job], Iterator[Figure]]]] = {
    "virtme": ("virtme-ng, same kernel, no KVM", virtme),
    "starts": ("QEMU start to the first cell", starts),
    "losses": ("A guest that crashed or hung", losses),
    "cells": ("200 cells", cells),
    "one": ("One cell, beside a C program and v4l2-compliance", one),
    "boot": ("Stages, sizes, and making the parts", boot),
    "claims": ("What makes it fast: the same without", claims),
}
