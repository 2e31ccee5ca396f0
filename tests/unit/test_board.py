# SPDX-License-Identifier: GPL-2.0-or-later
"""Board files: those in lab-config, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import HilError
from hil.lab import board as boards
from hil.lab import ram

GOOD = """\
name = "mine"
kind = "virtual"
[machine]
arch = "x86_64"
type = "q35"
[[machine.nodes]]
size = "1G"
[[machine.pmem]]
size = "64M"
filesystem = "ext4"
"""

SILICON = '\n[[machine.silicon]]\nmodel = "toy"\n'
REGISTERS = SILICON + 'transport = "registers"\n'
PIN = 'interrupt = "a b 1"\n'


@pytest.mark.parametrize("name", [p.stem for p in boards.BOARDS.glob("*.toml")])
def test_every_board_of_the_project_loads(name: str) -> None:
    board = boards.load(name)
    assert board.name == name
    assert board.text == (boards.BOARDS / f"{name}.toml").read_text()


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    board = boards.load(str(file))
    assert board.machine is not None
    assert [p.size for p in board.machine.pmem] == ["64M"]
    assert [(p.id, p.size) for p in ram.parts(board.machine)] == [("node0", 1 << 30)]


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("kind", "knid", "unknown key 'knid'", "Did you mean 'kind'?"),
        ("filesystem", "filesytem", "machine: pmem[0]: unknown key 'filesytem'", "'filesystem'?"),
        ('"virtual"', '"real"', "kind: found 'real', expected 'virtual' or 'local'", "QEMU"),
        ('name = "mine"', "", "the key 'name' is missing", "str"),
        ('"ext4"', '"ext3"', "machine.pmem[0]: found filesystem 'ext3'", "ext4, xfs"),
        ('"64M"', '"64"', "machine.pmem[0]: size: found '64'", "K, M or G"),
        ('"1G"', '"1T"', "memory part 0: size: found '1T'", "K, M or G"),
        ('"q35"', '"pc"', "machine.type: found 'pc'", "q35"),
        ('"x86_64"', '"sparc"', "machine.arch: found 'sparc'", "x86_64"),
        (
            "[machine]",
            '[[guest.webcams]]\nsizes = ["99x99"]\n[machine]',
            "guest.webcams[0]: found size '99x99'",
            "capture.md",
        ),
        (
            "[machine]",
            '[suite]\nconditions = ["spinn"]\n[machine]',
            "suite.conditions: found 'spinn'",
            "spin, stuck",
        ),
        ("[machine]", "[machine", "not valid TOML", "Mend the line"),
        (
            GOOD[-1:],
            SILICON + 'transport = "usb"',
            "silicon[0]: transport: found 'usb'",
            "vfio-user",
        ),
        (GOOD[-1:], SILICON + 'address = "1"', "silicon[0]: address: found '1'", "registers"),
        (GOOD[-1:], REGISTERS + PIN, "silicon[0]: address: found ''", "registers"),
        (GOOD[-1:], REGISTERS + PIN + 'address = "0xg"', "address: found '0xg'", "0x3f000000"),
        (
            GOOD[-1:],
            REGISTERS + 'address = "1"\ninterrupt = "a b"',
            "interrupt: found 'a b'",
            "three words",
        ),
        (GOOD[-1:], '\n[guest]\nfirmware = {"a/b.bin" = "4"}', "guest.firmware: a/b.bin", "K, M"),
        (GOOD[GOOD.index("[machine]") :], "", "needs a [machine] table", "virtual-x86"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, old: str, new: str, message: str, hint: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(new.join(GOOD.rsplit(old, 1)) if old == "\n" else GOOD.replace(old, new, 1))
    with pytest.raises(HilError) as caught:
        boards.load(str(file))
    assert str(file) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_board_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HilError) as caught:
        boards.load("virtual-x68")
    assert "virtual-x86" in caught.value.hint
    with pytest.raises(HilError, match="cannot be read"):
        boards.load(str(_folder(tmp_path / "folder.toml")))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_board_that_rests_on_another_says_only_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'base = "virtual-exynos"\nname = "mine"\n[machine]\ncpus = 1\n'
        '[[machine.silicon]]\nmodel = "g2d"\ntransport = "registers"\naddress = "1"\n'
        'interrupt = "a b 1"\n'
    )
    mine, base = boards.load(str(file)), boards.load("virtual-exynos")
    assert (mine.name, mine.summary) == ("mine", base.summary)
    assert mine.machine is not None and base.machine is not None
    assert (mine.machine.cpus, mine.machine.pmem) == (1, base.machine.pmem)
    assert [s.address for s in mine.machine.silicon] == ["1"]
    assert "name" in mine.text and "pmem" not in mine.text
    file.write_text('base = "nothing"\nname = "mine"\nkind = "virtual"\n')
    with pytest.raises(HilError, match="base: found 'nothing'"):
        boards.load(str(file))
