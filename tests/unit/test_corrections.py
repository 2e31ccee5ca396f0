# SPDX-License-Identifier: GPL-2.0-or-later
"""Corrected copies of stock modules: four bytes and no more, and only where they fit."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from hil.errors import HilError
from hil.lab import corrections, modules
from hil.lab.corrections import CORRECTIONS, Correction, correct
from hil.lab.kernels import Kernel

HABANA = CORRECTIONS[0]
SOURCE = """\
struct file_operations { void *owner; unsigned fop_flags; int (*open)(void); };
static int open_it(void) { return 1; }
const struct file_operations hl_fops = { &hl_fops, FLAGS, open_it };
"""
SIGNATURE = b"a signature" * 9


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """Modules by the value of their fop_flags, signed."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang")
    folder = tmp_path_factory.mktemp("modules")
    (folder / "m.c").write_text(SOURCE)
    found = {}
    for flags in (0, 0x20):
        command = [compiler, f"-DFLAGS={flags}", "-c", "-o", "m.o", "m.c"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        head = struct.pack(">8xI", len(SIGNATURE))
        signed = SIGNATURE + head + b"~Module signature appended~\n"
        found[flags] = (folder / "m.o").read_bytes() + signed
    return found


def unsigned(data: bytes) -> bytes:
    return data[: -len(SIGNATURE) - 12 - 28]


def test_only_the_field_changes_and_the_signature_goes(built: dict[int, bytes]) -> None:
    stock, fixed = unsigned(built[0]), correct(built[0], HABANA)
    assert len(fixed) == len(stock)
    differ = [i for i, (a, b) in enumerate(zip(stock, fixed, strict=True)) if a != b]
    assert len(differ) == 1
    assert (stock[differ[0]], fixed[differ[0]]) == (0, 0x20)
    assert correct(stock, HABANA) == fixed  # a module without a signature
    # The compiler that puts the flag in makes the same file.
    assert fixed == unsigned(built[0x20])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"symbol": "gaudi_fops"}, "has no single gaudi_fops"),
        ({"offset": 0}, "the field is relocated"),
        ({"offset": 4}, "the field is relocated"),
        ({"offset": 40}, "hl_fops has 24 bytes"),
    ],
)
def test_what_does_not_fit_is_left_alone(
    built: dict[int, bytes], change: dict[str, object], why: str
) -> None:
    wrong: Correction = HABANA._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(HilError, match=why) as caught:
        correct(built[0], wrong, "habanalabs.ko")
    assert "habanalabs.ko" in caught.value.message
    with pytest.raises(HilError, match="can't be read"):
        correct(b"no ELF at all", HABANA)


def kernel(folder: Path, version: str, module: bytes) -> Kernel:
    (folder / "modules.dep").write_text("habanalabs.ko: drm.ko\ndrm.ko:\nvivid.ko:\n")
    (folder / "habanalabs.ko").write_bytes(module)
    return Kernel(
        release="6.12.1-test", version=version, package_version="", arch="amd64",
        vmlinuz=folder / "vmlinuz", config=None, modules=folder, identity="x", spec="",
        system_map=None,
    )  # fmt: skip


def test_a_kernel_gets_a_copy_only_where_it_has_the_mistake(
    built: dict[int, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, (version, flags, names, count) in enumerate(
        [
            ("6.12.118", 0, ["habanalabs"], 1),
            ("6.12.118", 0x20, ["habanalabs"], 0),  # mended
            ("6.11.4", 0, ["habanalabs"], 0),  # no such flag yet
            ("7.3.4", 0, ["vivid"], 0),  # not wanted, or the user brings it
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = corrections.of(kernel(folder, version, built[flags]), names)
        assert len(found) == count
        for copy in found:
            assert copy.file.read_bytes() == correct(built[0], HABANA)
            assert modules.read(copy.stock) == built[0]
            assert copy.told.startswith("habanalabs: hl_fops.fop_flags = FOP_UNSIGNED_OFFSET")
