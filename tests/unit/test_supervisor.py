# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets the blame when a guest goes down or silent: fake guests that speak from a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.errors import HilError
from hil.lab.lots import Lots
from hil.lab.qemu import LostVmError
from hil.lab.supervisor import IncompleteError, Supervisor
from hil.runs.journal import Journal, read
from hil.runs.outcome import last_of_each

A, B, C = (f"v4l2-vivid-video0/{memory}/capture/steady" for memory in ("memfd", "thp", "tmpfs"))
SUITE = {
    "kernel": "6.12.117",
    "pinners": [{"name": "v4l2-vivid-video0", "driver": "vivid", "family": "vb2-vmalloc"}],
}
SILENCE = object()
RESET, KILLED = 0, -9
KVM_FAILED = 1000  # no status of a process: QEMU stays
PANIC = "[   38.67] Kernel panic - not syncing: sysrq triggered crash"
STALE_BREAKPOINT = """\
[    2.20] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI
[    2.21] RIP: 0010:sched_clock_cpu+0x9/0x1d0
[    2.25] Kernel panic - not syncing: Fatal exception in interrupt"""


def begin(cell: str) -> bytes:
    return json.dumps({"begin": cell}).encode()


def record(cell: str, verdict: str = "ok") -> bytes:
    entry = {"cell": cell, "verdict": verdict, "reason": "", "known": None, "evidence": {"n": 1}}
    return json.dumps(entry).encode()


def cell(name: str, verdict: str = "ok") -> list[bytes]:
    return [begin(name), record(name, verdict)]


FINISHED = b'{"event": "finished"}'


class FakeVm:
    """Says its script; the end of it is QEMU's end with a status, or silence when that is None."""

    started = 0.0

    def __init__(
        self, script: list[Any], end: int | None = RESET, starved: list[float] | None = None,
        console: str = PANIC,
    ) -> None:  # fmt: skip
        self.script, self.status, self.lack = list(script), end, starved or []
        self.console = console
        self.orders: list[str] = []
        self.lots: list[list[str]] = []
        self.asked: list[str] = []
        self.deadlines: list[float] = []
        self.killed = False
        self.model_failed = ""

    def send(self, message: dict[str, Any]) -> None:
        self.orders = message["run"]
        self.lots.append(message["run"])

    def lines(self, deadline: float) -> Iterator[bytes]:
        self.deadlines.append(deadline)
        if self.script and (line := self.script.pop(0)) is not SILENCE:
            yield line

    def end(self) -> int | None:
        return None if self.script or self.status == KVM_FAILED else self.status

    def waits(self) -> dict[str, int]:
        return {}

    def starved(self, before: Mapping[str, int]) -> float:
        return self.lack.pop(0) if self.lack else 0.0

    def failed(self) -> bool:
        return self.status == KVM_FAILED and not self.script

    def nmi(self) -> None:
        self.asked.append("nmi")
        raise LostVmError("no answer")

    def listen(self, seconds: float) -> None:
        pass

    def tail(self, lines: int) -> str:
        return self.console

    def kill(self) -> None:
        self.killed = True


class FakeGuest:
    def __init__(self, vm: FakeVm) -> None:
        self.vm, self.suite, self.how = vm, SUITE, "snapshot"

    def failure(self) -> str:
        return self.vm.model_failed

    def close(self) -> None:
        self.vm.kill()

    def __enter__(self) -> FakeGuest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lab:
    """A board with fake guests, each used once, and what came of a run of A, B, C on it."""

    def __init__(self, folder: Path, *vms: FakeVm) -> None:
        self.vms, self.to_start = vms, list(vms)
        self.path = folder / "journal.jsonl"
        self.notes: list[str] = []
        self.distrusted = 0
        self.emulated = True
        self.guests = 1

    def start(self, console: Path) -> FakeGuest:
        if not self.to_start:
            raise HilError("QEMU did not start")
        return FakeGuest(self.to_start.pop(0))

    def distrust(self) -> None:
        self.distrusted += 1

    def without_kvm(self, why: str) -> None:
        self.emulated = True

    def run(self, *cells: str, alone: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Every record written, in order; cells that are ``alone`` may wreck their guests."""
        watcher = SimpleNamespace(
            begin=lambda cell: None, done=lambda record: None, note=self.notes.append
        )
        with Journal.open(self.path) as journal:
            first = self.start(Path())
            supervisor = Supervisor(self, journal, Path("console.log"), watcher, 10.0)  # type: ignore[arg-type]
            supervisor.lots = Lots(cells or [A, B, C], alone)
            supervisor.lots.guests = self.guests
            supervisor.work(first)  # type: ignore[arg-type]
        assert all(vm.killed for vm in self.vms if vm not in self.to_start)
        return read(self.path)


def verdicts(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(r["cell"], r["verdict"]) for r in records]


def test_all_cells_in_one_guest(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FakeVm([*cell(A), *cell(B), *cell(C), FINISHED]))
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]
    assert lab.vms[0].orders == [A, B, C]
    assert lab.notes == []


def test_a_cell_that_is_named_again_runs_again_also_in_the_next_guest(tmp_path: Path) -> None:
    lab = Lab(
        tmp_path, FakeVm([*cell(A), *cell(A), begin(A)]), FakeVm([*cell(A), *cell(B), FINISHED])
    )
    found = verdicts(lab.run(A, A, A, A, B))
    assert found == [(A, "ok"), (A, "ok"), (A, "crash"), (A, "ok"), (B, "ok")]
    assert lab.vms[1].orders == [A, B]


def test_a_guest_that_resets_itself_is_a_crash_of_the_cell_in_flight(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FakeVm([*cell(A), begin(B)]), FakeVm([*cell(C), FINISHED]))
    records = lab.run()
    assert verdicts(records) == [(A, "ok"), (B, "crash"), (C, "ok")]
    assert lab.vms[1].orders == [C]
    assert "sysrq triggered crash" in records[1]["reason"]
    assert records[1]["evidence"]["cell_before"] == A


def test_cells_that_may_wreck_the_guest_come_last_and_each_has_a_fresh_one(
    tmp_path: Path,
) -> None:
    lab = Lab(
        tmp_path,
        FakeVm([*cell(C), FINISHED], end=None),
        FakeVm([*cell(A), FINISHED], end=None),
        FakeVm([begin(B)]),
    )
    assert verdicts(lab.run(alone=[A, B])) == [(C, "ok"), (A, "ok"), (B, "crash")]
    assert [vm.orders for vm in lab.vms] == [[C], [A], [B]]


def test_one_run_holds_many_crashes(tmp_path: Path) -> None:
    lab = Lab(tmp_path, *(FakeVm([begin(name)]) for name in (A, B, C)))
    assert verdicts(lab.run(alone=[A, B, C])) == [(A, "crash"), (B, "crash"), (C, "crash")]
    assert lab.distrusted == 0


def test_a_guest_asks_for_more_until_nothing_is_left(tmp_path: Path) -> None:
    vm = FakeVm([*cell(A), FINISHED, *cell(B), FINISHED, *cell(C), FINISHED])
    lab = Lab(tmp_path, vm)
    lab.guests = 2
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]
    assert vm.lots == [[A], [B], [C]]


def test_a_torn_record_counts_for_nothing(tmp_path: Path) -> None:
    torn = record(A)[:20]
    lab = Lab(tmp_path, FakeVm([begin(A), torn]), FakeVm([*cell(B), *cell(C), FINISHED]))
    assert verdicts(lab.run()) == [(A, "crash"), (B, "ok"), (C, "ok")]


def test_a_death_just_after_a_record_is_laid_at_that_cell(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, FakeVm(cell(A)), FakeVm([*cell(B), *cell(C), FINISHED]))
    records = lab.run()
    assert verdicts(records) == [(A, "ok"), (A, "crash"), (B, "ok"), (C, "ok")]
    assert verdicts(last_of_each(records)) == [(A, "crash"), (B, "ok"), (C, "ok")]
    evidence = records[1]["evidence"]
    assert (evidence["verdict_before"], evidence["n"]) == ("ok", 1)
    assert lab.vms[1].orders == [B, C]


def test_a_death_after_the_last_record_is_not_lost(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FakeVm([*cell(A), *cell(B), *cell(C)]))
    assert verdicts(last_of_each(lab.run()))[-1] == (C, "crash")


def test_silence_is_a_hang_and_the_last_question_is_asked(tmp_path: Path) -> None:
    lab = Lab(
        tmp_path,
        FakeVm([begin(A), SILENCE], end=None),
        FakeVm([*cell(B), *cell(C), FINISHED]),
    )
    assert verdicts(lab.run())[0] == (A, "hang")
    assert lab.vms[0].asked == ["nmi"]


def test_an_overloaded_host_gets_the_guest_more_time(tmp_path: Path) -> None:
    slow = FakeVm(
        [begin(A), SILENCE, record(A), *cell(B), *cell(C), FINISHED], end=None, starved=[15.0]
    )
    lab = Lab(tmp_path, slow)
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]
    assert slow.deadlines[2] - slow.deadlines[1] == pytest.approx(15.0, abs=1.0)


def test_patience_with_an_overloaded_host_ends(tmp_path: Path) -> None:
    lost = FakeVm([begin(A), *[SILENCE] * 50], end=None, starved=[float(n * 99) for n in range(50)])
    lab = Lab(tmp_path, lost, FakeVm([*cell(B), *cell(C), FINISHED]))
    assert verdicts(lab.run())[0] == (A, "hang")
    assert len(lost.deadlines) < 10


def test_a_hang_on_a_starved_host_is_tried_once_more(tmp_path: Path) -> None:
    starved = [1e9]
    lab = Lab(
        tmp_path,
        FakeVm(cell(A, "hang"), end=None, starved=starved[:]),
        FakeVm(cell(A, "hang"), end=None, starved=starved[:]),
        FakeVm([*cell(B), *cell(C), FINISHED]),
    )
    assert verdicts(lab.run()) == [(A, "hang"), (B, "ok"), (C, "ok")]
    assert [vm.orders[0] for vm in lab.vms] == [A, A, B]


@pytest.mark.parametrize("verdict", ["kernel-warning", "ok"])
def test_what_the_end_of_a_process_shows_is_the_last_cells_second_record(
    tmp_path: Path, verdict: str
) -> None:
    late = json.loads(record(A, verdict))
    late["evidence"] = {"settled": True}
    rest = [*cell(B), FINISHED, *cell(C), FINISHED]
    first = FakeVm([*cell(A), json.dumps(late).encode(), FINISHED, *rest])
    lab = Lab(tmp_path, first, FakeVm(rest))
    lab.guests = 2  # lots of one cell
    found = verdicts(lab.run())
    assert found == [(A, "ok"), (A, verdict), (B, "ok"), (C, "ok")]
    assert lab.notes == [f"the kernel warned when the process of {A} ended"]
    assert len(lab.to_start) == (verdict == "ok"), "what was warned of leaves no guest to go on"


@pytest.mark.parametrize("verdict", ["hang", "kernel-warning", "crash"])
def test_an_unfit_guest_is_replaced(tmp_path: Path, verdict: str) -> None:
    lab = Lab(
        tmp_path,
        FakeVm([*cell(A, verdict), *cell(B)], end=None),
        FakeVm([*cell(B), *cell(C), FINISHED]),
    )
    assert verdicts(lab.run()) == [(A, verdict), (B, "ok"), (C, "ok")]


def test_a_qemu_that_the_host_killed_is_no_crash_of_the_cell(tmp_path: Path) -> None:
    lab = Lab(
        tmp_path, FakeVm([*cell(A), begin(B)], KILLED), FakeVm([*cell(B), *cell(C), FINISHED])
    )
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]
    assert "ended with -9" in lab.notes[0]


def test_where_kvm_fails_a_guest_the_cell_runs_again_emulated(tmp_path: Path) -> None:
    failing = FakeVm([*cell(A), begin(B)], KVM_FAILED)
    lab = Lab(tmp_path, failing, FakeVm([*cell(B), *cell(C), FINISHED]))
    lab.emulated = False
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]
    assert "KVM failed" in lab.notes[0]
    assert lab.emulated and not failing.asked


def test_a_qemu_that_is_killed_twice_in_a_cell_is_an_error_of_the_lab(tmp_path: Path) -> None:
    lab = Lab(
        tmp_path,
        FakeVm([begin(A)], KILLED),
        FakeVm([begin(A)], KILLED),
        FakeVm([*cell(B), *cell(C), FINISHED]),
    )
    records = lab.run()
    assert verdicts(records) == [(A, "harness-error"), (B, "ok"), (C, "ok")]
    assert "twice" in records[0]["reason"]


def test_a_breakpoint_that_the_emulator_kept_is_no_crash_of_the_cell(tmp_path: Path) -> None:
    failing = FakeVm([*cell(A), begin(B)], console=STALE_BREAKPOINT)
    lab = Lab(tmp_path, failing, FakeVm([*cell(B), *cell(C), FINISHED]))
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]
    assert "stale breakpoint" in lab.notes[0]


@pytest.mark.parametrize(
    "console",
    [
        STALE_BREAKPOINT.replace("Oops: int3", "Oops: invalid opcode"),
        # The first fault is the driver's.
        "[    1.00] BUG: kernel NULL pointer dereference\n[    1.01] Oops: 0000 [#1] SMP\n"
        + STALE_BREAKPOINT.replace("#1", "#2"),
    ],
)
def test_any_other_fault_is_the_guests_own(tmp_path: Path, console: str) -> None:
    failing = FakeVm([*cell(A), begin(B)], console=console)
    lab = Lab(tmp_path, failing, FakeVm([*cell(C), FINISHED]))
    assert verdicts(lab.run()) == [(A, "ok"), (B, "crash"), (C, "ok")]


def test_on_real_processors_a_breakpoint_is_a_crash(tmp_path: Path) -> None:
    failing = FakeVm([*cell(A), begin(B)], console=STALE_BREAKPOINT)
    lab = Lab(tmp_path, failing, FakeVm([*cell(C), FINISHED]))
    lab.emulated = False
    assert verdicts(lab.run()) == [(A, "ok"), (B, "crash"), (C, "ok")]


def test_a_qemu_killed_between_cells_spoils_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FakeVm(cell(A), KILLED), FakeVm([*cell(B), *cell(C), FINISHED]))
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]


def with_a_failing_model(vm: FakeVm) -> FakeVm:
    vm.model_failed = "the device model toy ended with 1: KeyError: 5"
    return vm


def test_what_was_seen_of_a_device_that_is_gone_does_not_count(tmp_path: Path) -> None:
    lab = Lab(
        tmp_path,
        with_a_failing_model(FakeVm(cell(A, "wrongly-refused"), end=None)),
        FakeVm([*cell(A), *cell(B), *cell(C), FINISHED]),
    )
    assert verdicts(lab.run()) == [(A, "ok"), (B, "ok"), (C, "ok")]
    assert lab.notes == [f"the device model toy ended with 1: KeyError: 5 in {A}: once more"]


def test_a_model_that_fails_twice_in_a_cell_is_an_error_of_the_lab(tmp_path: Path) -> None:
    failing = [with_a_failing_model(FakeVm([begin(A)], KILLED)) for _ in range(2)]
    lab = Lab(tmp_path, *failing, FakeVm([*cell(B), *cell(C), FINISHED]))
    records = lab.run()
    assert verdicts(records) == [(A, "harness-error"), (B, "ok"), (C, "ok")]
    assert "KeyError: 5, twice in this cell" in records[0]["reason"]


def test_two_deaths_in_a_row_at_neighbours_cost_a_cell_each(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FakeVm([begin(A)]), FakeVm([begin(B)]), FakeVm([*cell(C), FINISHED]))
    assert verdicts(lab.run()) == [(A, "crash"), (B, "crash"), (C, "ok")]


def test_a_suite_that_dies_is_its_own_fault(tmp_path: Path) -> None:
    exit_ = b'{"event": "exit", "status": 137}'
    lab = Lab(tmp_path, FakeVm([begin(A), exit_], end=None), FakeVm([*cell(B), *cell(C), FINISHED]))
    records = lab.run()
    assert verdicts(records) == [(A, "harness-error"), (B, "ok"), (C, "ok")]
    assert "ended with status 137" in records[0]["reason"]
    assert records[0]["evidence"]["console"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (json.dumps({"failed": A, "error": "ValueError('nan')"}).encode(), "ValueError('nan')"),
        (begin(B), "without a record"),
        (FINISHED, "without a record"),
    ],
)
def test_a_cell_that_the_suite_lost_is_no_cell_forgotten(
    tmp_path: Path, said: bytes, words: str
) -> None:
    rest = [record(B)] if said == begin(B) else cell(B)
    after = [FakeVm([*cell(B), *cell(C), FINISHED])] if said == FINISHED else []
    lab = Lab(tmp_path, FakeVm([begin(A), said, *rest, *cell(C), FINISHED], end=None), *after)
    records = lab.run()
    assert verdicts(records) == [(A, "harness-error"), (B, "ok"), (C, "ok")]
    assert words in records[0]["reason"]


def test_guests_that_die_before_any_cell_end_the_run(tmp_path: Path) -> None:
    lab = Lab(tmp_path, *(FakeVm([]) for _ in range(5)))
    with pytest.raises(IncompleteError, match="3 guests in a row"):
        lab.run()
    assert len(lab.to_start) == 2
    assert lab.distrusted == 2  # the snapshot may be at fault
    assert read(lab.path) == []


def test_a_guest_that_cannot_be_started_again_ends_the_run(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FakeVm([*cell(A), begin(B)]))
    with pytest.raises(IncompleteError, match="QEMU did not start"):
        lab.run()
    assert verdicts(read(lab.path)) == [(A, "ok"), (B, "crash")]


def test_a_cell_that_no_guest_has_ends_the_run(tmp_path: Path) -> None:
    empty = [FakeVm([FINISHED], end=None) for _ in range(5)]
    lab = Lab(tmp_path, FakeVm([*cell(A), *cell(B), FINISHED], end=None), *empty)
    with pytest.raises(IncompleteError):
        lab.run()
    assert verdicts(read(lab.path)) == [(A, "ok"), (B, "ok")]
