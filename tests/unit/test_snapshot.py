# SPDX-License-Identifier: GPL-2.0-or-later
"""Which snapshots are used, and what is cleared away; no guest is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hil.lab import cache, holding, limits, ram, snapshot

SAID = {"cells": ["a/b/capture/steady"], "slow": [], "suite": {}}
PARTS = {"kernel": "1", "image": "2", "qemu": ["7.2", [1, 2]]}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


class FakeVm:
    """A QEMU that writes its RAM until it is killed and its state when told to migrate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "node0").write_bytes(bytes(4096))

    def qmp(self, name: str, **arguments: object) -> dict[str, str]:
        if name == "migrate":
            (self.folder / "state").write_bytes(b"state")
        return {"status": "completed"}

    def kill(self) -> None:
        (self.folder / "node0").write_bytes(b"x" * 4096)


def made(name: str) -> snapshot.Snapshot:
    folder = snapshot.workplace(name)
    return snapshot.save(FakeVm(folder), folder, name, SAID)  # type: ignore[arg-type]


def test_a_finished_snapshot_is_found_with_what_the_guest_said() -> None:
    assert snapshot.find("one") is None
    saved = made("one")
    assert snapshot.find("one") == saved
    assert saved.said == SAID


def test_the_key_changes_with_every_part() -> None:
    keys = {snapshot.key(PARTS)}
    for name in PARTS:
        keys.add(snapshot.key({**PARTS, name: "other"}))
    assert len(keys) == 1 + len(PARTS)
    assert snapshot.key(dict(reversed(PARTS.items()))) in keys


@pytest.mark.parametrize("name", ["node0", "state", "snapshot.json"])
@pytest.mark.parametrize("how", ["short", "gone", "changed"])
def test_a_damaged_snapshot_is_not_used_and_can_be_replaced(name: str, how: str) -> None:
    file = made("one").folder / name
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: -1 if how == "short" else None][::-1])
    assert snapshot.find("one") is None
    assert made("one") == snapshot.find("one")


def test_a_half_made_snapshot_is_not_used_and_goes_with_its_maker() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = snapshot.workplace("one")
    theirs = mine.with_name(f".one.new.{ended.pid}")
    for folder in (mine, theirs):
        folder.mkdir(exist_ok=True)
        FakeVm(folder).qmp("migrate")
    assert snapshot.find("one") is None
    ram.clean()
    assert mine.exists()
    assert not theirs.exists()


def test_the_oldest_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(("new", "older", "oldest")):
        os.utime(made(name).folder, (1e9 - age, 1e9 - age))
    snapshot.find("oldest")  # used just now
    monkeypatch.setattr(limits, "get", lambda: limits.Limits(40_000, "here"))
    made("another")
    left = {p.name for p in (cache.root() / "snapshots").iterdir()}
    assert "another" in left
    assert "older" not in left
    assert "oldest" in left


def test_what_a_run_uses_stays_although_it_is_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = made("used"), made("unused")
    monkeypatch.setattr(limits, "get", lambda: limits.Limits(1, "here"))
    with holding.Holds() as holds:
        holds.add(used.folder)
        for age, one in enumerate((unused, used)):
            os.utime(one.folder, (1e9 - age, 1e9 - age))
        made("another")
        assert snapshot.find("used") and not snapshot.find("unused")
    made("last")
    assert not snapshot.find("used")


def test_ram_of_killed_supervisors_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram, "_SHM", tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = ram.folder()
    stale = tmp_path / f"hil-ram-{ended.pid}-abc"
    other = tmp_path / "hil-ramp"
    for folder in (stale, other):
        folder.mkdir()
        (folder / "node0").write_bytes(b"")
    ram.clean()
    assert mine.exists() and other.exists()
    assert not stale.exists()
