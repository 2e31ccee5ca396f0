# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil run` over several kernels, told by made-up runs: exit status, summary, how to go on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from hil.errors import HilError, NotCompletedError
from hil.lab import runner, series
from hil.lab.kernel_run import KernelRun, Options
from hil.report.progress import Progress
from hil.runs.folder import RunFolder

CELL = "v4l2-vivid-video0/{}/capture/steady"


def record(memory: str, verdict: str = "ok") -> dict[str, Any]:
    return {
        "cell": CELL.format(memory), "pinner": "v4l2-vivid-video0", "driver": "vivid",
        "memory": memory, "direction": "capture", "condition": "steady", "kernel": "6.12.1",
        "expected": {"accept": True, "errnos": []}, "rule": "r", "verdict": verdict,
        "reason": "so", "known": None, "attribution": None, "evidence": {"stage": "end"},
        "seconds": 0.1,
    }  # fmt: skip


class Run(KernelRun):
    """Writes a journal, and starts no guest."""

    verdicts: ClassVar[dict[str, dict[str, str]]] = {}
    errors: ClassVar[dict[str, BaseException]] = {}

    def prepare(self) -> None:
        if error := self.errors.get(self.title):
            raise error

    def begin(self) -> None:
        root = Path(self.options.out)
        kernel = f"{self.title}.1"
        self.folder = self.folder or RunFolder.create(root, board="virtual-x86", kernel=kernel)
        self.folder.update_meta(
            cells=len(self.verdicts[self.title]), status="incomplete", kernel=kernel,
            board="virtual-x86", kernel_spec=self.options.kernel,
        )  # fmt: skip

    def work(self) -> None:
        assert self.folder is not None
        with self.folder.journal.open("a") as file:
            for memory, verdict in self.verdicts[self.title].items():
                if verdict == "interrupt":
                    self._stopped = True
                    raise HilError("the guest was ended")
                file.write(json.dumps(record(memory, verdict)) + "\n")

    def wants_guest(self) -> bool:
        return False

    @property
    def begun(self) -> bool:
        return self.folder is not None

    def finish(self) -> None:
        assert self.folder is not None
        self.status = "interrupted" if self._stopped else "complete"
        self.folder.update_meta(status=self.status)


@pytest.fixture(autouse=True)
def no_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "KernelRun", Run)
    monkeypatch.setattr(Run, "verdicts", {})
    monkeypatch.setattr(Run, "errors", {})


def run(out: Path, *kernels: str, resumed: tuple[str, ...] = ()) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=120)
    options = Options(out=str(out))
    status = runner.run(options, ["hil", "run"], console, kernels=kernels, resumed=resumed)
    assert isinstance(console.file, io.StringIO)
    return status, console.file.getvalue()


def test_the_worst_kernel_counts_and_each_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run.verdicts = {"6.1": {"memfd": "ok"}, "6.12": {"memfd": "leak"}}
    Run.errors = {"6.18": NotCompletedError("the guest did not come up; its console ends:\nOops")}
    status, told = run(tmp_path, "debian:6.1", "debian:6.12")
    assert status == 1
    status, told = run(tmp_path, "debian:6.1", "debian:6.12", "debian:6.18")
    assert status == 3
    assert "6.1: complete, 0 bad" in told
    assert "6.12: complete, 1 bad" in told
    assert "6.18: nothing judged: the guest did not come up; its console ends:\n" in told
    assert "hil: 6.18: the guest did not come up" in capsys.readouterr().err
    assert any(str(page) in told for page in tmp_path.glob("*-kernels.html"))


def test_a_kernel_that_cannot_be_had_ends_with_2(tmp_path: Path) -> None:
    Run.verdicts = {"6.1": {"memfd": "ok"}}
    Run.errors = {"9.9": HilError("no suite of the mirror has a kernel debian:9.9")}
    assert run(tmp_path, "debian:6.1", "debian:9.9")[0] == 2
    with pytest.raises(HilError, match="a kernel debian:9"):  # alone it is an error of usage
        run(tmp_path, "debian:9.9")


def test_series_that_cannot_be_had_are_told_and_change_no_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = [series.Lacking("7.0", "the mirror lacks its packages linux-modules")]
    monkeypatch.setattr(
        series, "expand", lambda specs, **_: (["debian:6.1", "debian:6.12"], lacking)
    )
    Run.verdicts = {"6.1": {"memfd": "ok"}, "6.12": {"memfd": "ok"}}
    status, told = run(tmp_path, "all")
    assert status == 0
    assert told.startswith("not to be had: 7.0: the mirror lacks its packages linux-modules")
    assert told.count("linux-modules") == 2


def test_an_interruption_tells_how_to_go_on_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Run.verdicts = {"6.1": {"memfd": "ok", "thp": "interrupt"}, "6.12": {}, "6.18": {}}

    class Interrupted(runner.Fleet[Any]):
        def run(self, over: Any) -> None:
            first = self._jobs[0]
            first.begin()
            with pytest.raises(HilError):
                first.work()
            first.finish()
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "Fleet", Interrupted)
    console = Console(file=io.StringIO(), width=200)
    specs = ["debian:6.1", "debian:6.12", "debian:6.18"]
    with pytest.raises(KeyboardInterrupt):
        runner.run(Options(out=str(tmp_path)), ["hil"], console, kernels=specs)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    name = (tmp_path / "latest").resolve().name
    assert f"go on with: hil run --resume {name} --out {tmp_path}" in told
    assert f"not begun: hil run --kernel debian:6.12 --kernel debian:6.18 --out {tmp_path}" in told
    assert (tmp_path / name / "report.html").exists()


def test_progress_is_told_of_each_end(tmp_path: Path) -> None:
    Run.verdicts = {"6.1": {"memfd": "ok"}}
    progress = Progress(Console(file=io.StringIO()), 0, kernels=2)
    one = Run(Options(kernel="debian:6.1", out=str(tmp_path)), ["hil"], progress, places=1)
    one.ended()
    assert progress._summary().startswith("1/2 kernels")


def begun(tmp_path: Path, boot: BaseException | None) -> KernelRun:
    """A run whose guest could not be started because of ``boot``; None: because it was stopped."""
    progress = Progress(Console(file=io.StringIO()), 0)
    one = KernelRun(Options(kernel="debian:6.1", out=str(tmp_path)), [], progress, places=1)
    one.folder = RunFolder.create(tmp_path, board="b", kernel="6.1.1")
    one.folder.console.write_text("Oops")
    one.seconds = 0.0

    def begin() -> None:
        one.status = "incomplete"
        if boot is None:
            one.stop()
        raise boot or NotCompletedError("the run was ended")

    one._begin = begin  # type: ignore[method-assign]
    with pytest.raises(NotCompletedError):
        one.begin()
    one.stop()
    one.finish()
    return one


def test_a_kernel_that_does_not_boot_is_incomplete_and_keeps_its_console(tmp_path: Path) -> None:
    one = begun(tmp_path, NotCompletedError("it does not come up"))
    assert one.folder is not None
    assert one.folder.read_meta()["status"] == "incomplete"
    assert one.folder.console.read_text() == "Oops"


def test_a_run_that_is_interrupted_before_it_has_cells_leaves_no_folder(tmp_path: Path) -> None:
    assert begun(tmp_path, None).folder is None
    assert not list(tmp_path.glob("2*"))
