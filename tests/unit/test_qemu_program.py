# SPDX-License-Identifier: GPL-2.0-or-later
"""Which QEMU runs a guest, and what it can serve; QEMU is a script here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import HilError
from hil.lab import hosttools, packages, qemu_program
from hil.lab.packages import Tree

# Called as itself, or by a loader: "LOADER --library-path LIBRARIES PROGRAM -L DATA ... OPTIONS".
QEMU = """#!/bin/sh
for word; do
    case $word in
    --version) echo "QEMU emulator version $VERSION"; exit ;;
    vfio-user-pci,help) echo "vfio-user-pci options:"; exit ;;
    *,help) echo "Device not found" >&2; exit ;;
    esac
done
exit 3
"""


def script(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(QEMU.replace("$VERSION", version))
    path.chmod(0o755)
    return path


def test_the_hosts_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = script(tmp_path / "qemu-system-x86_64", "7.2.22 (Debian)")
    monkeypatch.setattr(hosttools, "find", lambda name: Path(program) if "qemu" in name else None)
    monkeypatch.setattr(hosttools, "need", lambda name, instead="": Path(program))
    found = qemu_program.get("host")
    assert found.argv == (str(program),)
    assert found.version == "QEMU emulator version 7.2.22 (Debian)"
    script(program, "7.2.23")
    assert qemu_program.get("host") != found


def test_the_archives_runs_by_its_own_loader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "lib64/ld-linux-x86-64.so.2", "11.1.3")
    asked: list[tuple[object, ...]] = []

    def closure(*words: object, say: object) -> Tree:
        asked.append(words)
        return Tree(tmp_path, {"qemu-system-x86": "1:11.1.3"}, "identity")

    monkeypatch.setattr(packages, "closure", closure)
    found = qemu_program.get("archive")
    assert asked == [("trixie-backports", ("qemu-system-x86",), "amd64")]
    assert found.argv[:4] == (
        str(tmp_path / "lib64/ld-linux-x86-64.so.2"), "--library-path",
        str(tmp_path / "usr/lib/x86_64-linux-gnu"), str(tmp_path / "usr/bin/qemu-system-x86_64"),
    )  # fmt: skip
    assert found.argv[4] == "-L"
    assert found.version == "QEMU emulator version 11.1.3"
    wanted = ("vfio-user-pci", "x-pci-proxy-dev")
    assert qemu_program.devices(found, wanted) == {"vfio-user-pci"}
    (tmp_path / "lib64/ld-linux-x86-64.so.2").unlink()
    assert qemu_program.devices(found, wanted) == {"vfio-user-pci"}  # not asked again


def test_one_that_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "closure", lambda *_, say: Tree(tmp_path, {}, ""))
    loader = script(tmp_path / "lib64/ld-linux-x86-64.so.2", "")
    loader.write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(HilError, match="does not run"):
        qemu_program.get("archive")


def test_what_is_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert qemu_program.in_cache() == ""
    monkeypatch.setattr(
        packages, "cached", lambda *_: Tree(tmp_path, {"qemu-system-x86": "1:11.1.3"}, "")
    )
    assert qemu_program.in_cache() == "1:11.1.3"
