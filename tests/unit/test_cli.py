# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line without a guest: what it takes, and what its exit status says."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil import cli
from hil.errors import HilError
from hil.lab import board, kernels, runner


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[runner.Options]]:
    """Puts exit codes, or errors, in the place of runs; gives back what they were asked for."""

    def put(*ends: int | BaseException | Callable[[], object]) -> list[runner.Options]:
        asked: list[runner.Options] = []

        def run(options: runner.Options, *_: Any, **__: Any) -> int:
            end = ends[len(asked)]
            asked.append(options)
            if isinstance(end, BaseException):
                raise end
            if not isinstance(end, int):
                end()
                return 0
            return end

        monkeypatch.setattr(runner, "run", run)
        return asked

    return put


def test_defaults(runs: Any) -> None:
    asked = runs(0)
    assert cli.main(["run"]) == 0
    assert asked == [runner.Options(marks=asked[0].marks)]
    assert "not slow" in asked[0].marks
    assert (asked[0].board, asked[0].kernel) == ("virtual-x86", "debian:6.12")


def test_kernels_and_runs_to_go_on_with_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(runner, "run", lambda options, *_, **more: asked.append(more) or 3)
    kernels = ["5.10..6.1", "all", "dir:/src/linux"]
    assert cli.main(["run", *(f"--kernel={k}" for k in kernels), "-k", "memfd", "--cold"]) == 3
    assert cli.main(["run", "--resume", "one", "--resume", "two"]) == 3
    assert asked == [
        {"kernels": kernels, "resumed": []},
        {"kernels": [], "resumed": ["one", "two"]},
    ]


def test_what_a_person_can_mend_is_told_without_a_traceback(
    runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(HilError("no board 'x'", "Boards here: y."))
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == "hil: no board 'x'\n  Boards here: y.\n"


def test_a_full_disk_anywhere_is_told_without_a_traceback(
    runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runs(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/results/x"))
    assert cli.main(["run"]) == 2
    assert "hil: /results/x: No space left" in capsys.readouterr().err


def test_an_error_of_our_own_is_not_hidden(runs: Any) -> None:
    runs(OSError(errno.EIO, "I/O error"))
    with pytest.raises(OSError, match="I/O error"):
        cli.main(["run"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts(
    runs: Any, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    runs(lambda: signal.raise_signal(number))
    assert cli.main(["run"]) == 2
    assert "interrupted" in capsys.readouterr().err


def test_nohup_is_respected(runs: Any) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    runs(lambda: signal.raise_signal(signal.SIGHUP))
    assert cli.main(["run"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["rum"], "invalid choice: 'rum'"),
        (["run", "--cell-timeout", "soon"], "found 'soon', expected seconds"),
        (["run", "--cell-timeout", "0"], "from 0.1 to 86400"),
        (["run", "--cell-timeout", "nan"], "found 'nan'"),
        (["run", "--kernell", "debian:6.12"], "--kernell"),
        (["kernels"], "ACTION"),
        (["kernels", "get"], "SPEC"),
        (["show"], "RUN"),
    ],
)
def test_bad_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert words in told
    assert "--help" in told


@pytest.mark.parametrize(
    "more", [["-k", "x"], ["-m", "slow"], ["--kernel", "debian:6.1"], ["--module", "vivid.ko"]]
)
def test_a_resumed_run_cannot_be_another_one(
    runs: Any, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs(0) == []
    assert cli.main(["run", "--resume", "latest", *more]) == 2
    assert "--resume goes on with" in capsys.readouterr().err


def test_a_run_that_is_not_there(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "latest", "--out", str(tmp_path)]) == 2
    assert "no run 'latest'" in capsys.readouterr().err


def test_help_tells_the_exit_codes_and_specs(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--help"], ("exit status", "doctor", "kernels")),
        (["run", "--help"], ("debian:6.12", "dir:PATH", "--resume", "or interrupted")),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
        told = capsys.readouterr().out
        assert all(word in told for word in words)


def test_runs_and_bisections_go_on_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kernel = SimpleNamespace(release="6.12.117+deb13-amd64")
    for spec, kept in (
        ("debian:6.12", "debian:6.12.117+deb13-amd64"),
        ("deb:a.deb,/b.deb", f"deb:{tmp_path}/a.deb,/b.deb"),
        ("dir:linux", f"dir:{tmp_path}/linux"),
    ):
        assert kernels.lasting(spec, kernel) == kept  # type: ignore[arg-type]
    assert board.lasting("virtual-x86") == "virtual-x86"
    assert board.lasting("own.toml") == f"{tmp_path}/own.toml"
