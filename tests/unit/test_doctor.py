# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's checks, and the probe that tells whether KVM runs a guest."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import pytest
from rich.console import Console

from hil.errors import HilError
from hil.lab import cache, doctor, hosttools, kvm
from hil.lab.doctor import Status

QEMU = hosttools.find("qemu-system-x86_64")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(QEMU is None, reason="needs qemu-system-x86_64")
def test_the_probe_s_guest_answers_where_guests_run() -> None:
    assert QEMU is not None
    # emulation always runs it: this tests the guest's 512 bytes
    works, why = kvm.probe(QEMU, "tcg", limit=60)
    assert works, why


def test_a_guest_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    qemu = program(tmp_path / "qemu", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    began = time.monotonic()
    works, why = kvm.probe(qemu, "kvm", limit=0.5)
    assert not works
    assert "does not run guests" in why
    assert time.monotonic() - began < 10
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_qemu_that_gives_up_is_quoted(tmp_path: Path) -> None:
    qemu = program(tmp_path / "qemu", "echo 'failed to initialize kvm: denied' >&2; exit 1")
    works, why = kvm.probe(qemu, "kvm")
    assert not works
    assert why == "QEMU ended with 1: failed to initialize kvm: denied"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 host")
def test_the_answer_is_remembered_for_this_qemu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "_DEVICE", Path(os.devnull))
    qemu = program(tmp_path / "qemu", f"echo x >> {tmp_path}/runs; exit {kvm._ANSWER}")
    monkeypatch.setattr(kvm, "find", lambda _: qemu)
    assert kvm.kvm_works()[0]
    assert kvm.kvm_works()[0]
    assert (tmp_path / "runs").read_text() == "x\n"
    program(qemu, f"echo y >> {tmp_path}/runs; exit 3")  # another QEMU
    assert kvm.kvm_works() == (False, "QEMU ended with 3: no word")
    assert (tmp_path / "runs").read_text() == "x\ny\n"


def test_without_device_rights_or_qemu_there_is_no_kvm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(kvm, "find", lambda _: tmp_path / "qemu")
    monkeypatch.setattr(kvm, "_DEVICE", tmp_path / "kvm")
    assert "there is no /dev/kvm" in kvm.kvm_works()[1]
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "group kvm" in kvm.kvm_works()[1]
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "emulated" in kvm.kvm_works()[1]
    monkeypatch.setattr(kvm, "find", lambda _: None)
    assert kvm.kvm_works() == (False, "qemu-system-x86_64 is not installed")


def test_lacking_programs_come_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosttools, "find", lambda _: None)
    monkeypatch.setattr(kvm, "kvm_works", lambda: (False, "no"))
    found = {check.name: check for check in doctor.checks()}
    assert found["QEMU"].status is Status.LACK
    assert found["QEMU"].remedy == "apt-get install qemu-system-x86"
    assert found["mksquashfs"].remedy == "apt-get install squashfs-tools"
    assert "--kernel dir:PATH" in found["apt"].remedy
    console = Console(width=200)
    with console.capture() as text:
        assert doctor.report(console) == 2
    assert "lacking: QEMU, mksquashfs, depmod, dpkg-deb, tar, setpriv, xz, zstd" in text.get()


def test_too_little_memory_and_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "kvm_works", lambda: (True, "yes"))
    monkeypatch.setattr(doctor, "available_memory", lambda: 1 << 30)
    monkeypatch.setattr(cache, "free", lambda _: 5_000_000)
    found = {check.name: check for check in doctor.checks()}
    assert found["KVM"].status is Status.OK
    assert found["memory"].status is Status.LACK
    assert found["memory"].found == "1.0 GiB free"
    assert "4.5 GiB" in found["memory"].remedy
    assert found["disk"].status is Status.LACK
    assert "XDG_CACHE_HOME" in found["disk"].remedy


def test_a_missing_program_is_an_error_that_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(hosttools, "_SBIN", ())
    with pytest.raises(HilError) as caught:
        hosttools.need("qemu-system-x86_64", "Or take a lab machine.")
    assert caught.value.message == "the program qemu-system-x86_64 is missing"
    assert "apt-get install qemu-system-x86" in caught.value.hint
    assert caught.value.hint.endswith("Or take a lab machine.")
