# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody uses stays in the cache; what `hil cache prune` removes of the rest."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from hil import cli
from hil.errors import HilError
from hil.lab import cache, cache_parts, holding, limits
from hil.report.cache import print_cache

NOW = 1e9
DAY = 86400.0


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return cache.root()


def put(name: str, days: float = 0, size: int = 8192) -> Path:
    """A part that was last used so many days ago; a folder if its name ends with a slash."""
    path = cache.root() / name.rstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path
    if name.endswith("/"):
        path.mkdir()
        file = path / "file"
    file.write_bytes(os.urandom(size))
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return path


@contextmanager
def elsewhere(code: str) -> Iterator[None]:
    """Another process that does this and then waits."""
    program = f"import sys\nfrom pathlib import Path\nfrom hil.lab import holding\n{code}\n"
    program += "print('ready', flush=True)\nsys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["images/one.squashfs", "snapshots/one/"])
def test_what_another_process_holds_is_not_removed_until_it_ends(name: str) -> None:
    part = put(name)
    with elsewhere(f"holds = holding.Holds()\nholds.add(Path({str(part)!r}))"):
        assert not holding.remove(part)
        assert part.exists()
    assert holding.remove(part)
    assert not part.exists()
    assert [p for p in part.parent.iterdir()] == []


def test_holding_marks_as_used_and_a_part_that_is_gone_is_told() -> None:
    part = put("images/one.squashfs", 30)
    with holding.Holds() as holds:
        holds.add(part)
        assert part.stat().st_mtime > NOW + DAY
        assert not holding.remove(part)
        holds.add(Path("/dev/null"))  # not in the cache
    assert holding.remove(part)
    with holding.Holds() as holds, pytest.raises(HilError, match="was removed from the cache"):
        holds.add(part)


def names(parts: list[cache_parts.Part]) -> list[str]:
    return [str(part.path.relative_to(cache.root())) for part in parts]


def prune(*kinds: str, **options: object) -> list[str]:
    found = cache_parts.prune(kinds, now=lambda: NOW, **options)  # type: ignore[arg-type]
    return names(found.gone)


def test_what_is_old_goes() -> None:
    put("kernels/amd64/6.1_a/", 3)
    put("snapshots/new/", 1)
    put("initramfs/x.cpio", 5)
    assert prune(older=2 * DAY) == ["initramfs/x.cpio", "kernels/amd64/6.1_a"]
    assert names(cache_parts.parts()) == ["snapshots/new"]


def test_the_oldest_go_until_the_rest_fits() -> None:
    for days in range(5):
        put(f"snapshots/{days}/", days, size=100_000)
    one = cache_parts.parts()[0].size
    assert prune(limit=3 * one) == ["snapshots/4", "snapshots/3"]
    assert prune(limit=3 * one) == []


def test_only_kinds_that_are_named_go() -> None:
    put("kernels/amd64/6.1_a/", 3)
    put("snapshots/new/", 1)
    assert prune("kernels", all_=True) == ["kernels/amd64/6.1_a"]
    with pytest.raises(HilError, match="no kind 'kernel'"):
        cache_parts.check_kinds(["kernel"])


def test_without_options_snapshots_keep_to_their_limit_which_the_user_sets() -> None:
    for days in range(3):
        put(f"snapshots/{days}/", days, size=1_500_000)
    put("images/old.squashfs", 400)
    assert prune() == []
    limits.file().parent.mkdir(parents=True)
    limits.file().write_text('snapshots = "2M"\n')
    assert limits.get() == limits.Limits(2 << 20, str(limits.file()))
    assert prune() == ["snapshots/2", "snapshots/1"]


@pytest.mark.parametrize("text", ["snapshots = 8", 'images = "8G"', 'snapshots = "8"', "x"])
def test_a_file_of_limits_that_is_wrong_is_told(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limits.file().parent.mkdir(parents=True)
    limits.file().write_text(text)
    assert cli.main(["cache"]) == 2
    assert str(limits.file()) in capsys.readouterr().err


def test_a_run_elsewhere_keeps_what_it_may_read_but_not_what_nobody_holds() -> None:
    put("sources/6.1_a/", 3)
    put("snapshots/unused/", 3)
    with elsewhere("holding.use()"):
        found = cache_parts.prune(all_=True)
    assert (names(found.gone), names(found.in_use)) == (["snapshots/unused"], ["sources/6.1_a"])
    assert prune(all_=True) == ["sources/6.1_a"]


def test_a_dry_run_removes_nothing_and_locks_never_go() -> None:
    part = put("snapshots/one/")
    put("locks/kernel.lock")
    assert prune(all_=True, dry=True) == ["snapshots/one"]
    assert part.exists()
    assert prune(all_=True) == ["snapshots/one"]
    assert (cache.root() / "locks/kernel.lock").exists()


def test_what_is_shown() -> None:
    put("snapshots/one/", size=3_000_000)
    put("bench-abc/")
    file = io.StringIO()
    print_cache(Console(file=file, width=120), every=True)
    told = file.getvalue()
    assert "snapshots" in told and "3.0 MB" in told and "other" in told and "bench-abc" in told
    assert "limit 8590 MB, oldest out first" in told
    assert f"built in; {limits.file()} changes it" in told


@pytest.mark.parametrize("value", ["14", "d", "1.5d", "1y"])
def test_ages_that_are_none(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["cache", "prune", "--older-than", value])
    assert "expected an age such as 12h or 14d" in capsys.readouterr().err
