# SPDX-License-Identifier: GPL-2.0-or-later
"""The G2D pinner of exynos-drm against a model of the driver's answers."""

from __future__ import annotations

import ctypes
import mmap
import os
from array import array
from collections.abc import Iterator
from errno import EFAULT
from pathlib import Path
from typing import Any

import pytest

from hil.cells import Direction
from hil.evidence import frames
from hil.memory.base import Buffer
from hil.pinners import exynos_g2d
from hil.pinners.base import Node
from hil.pinners.copied import following
from hil.pinners.exynos_g2d import ExynosG2dPinner, ExynosG2dSession
from hil.uapi import access, mm
from hil.uapi import exynos_drm as uapi

OTHER, USER = 7, 0
"""The handle of the driver's own buffer."""


class Driver:
    """exynos-drm as far as its ioctls can be seen; copies when it is told to execute."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(exynos_g2d.LENGTH))
        self.gem = path
        self.lists: list[tuple[dict[int, int], dict[int, int]]] = []
        self.users: list[tuple[int, int]] = []
        self.ran: list[int] = []
        self.refuse = 0

    def ioctl(self, fd: int, number: int, it: Any) -> None:
        names = {v: k for k, v in vars(uapi).items() if k.startswith("DRM_IOCTL_")}
        getattr(self, names[number].removeprefix("DRM_IOCTL_EXYNOS_").lower())(it)

    def gem_create(self, it: Any) -> None:
        it.handle = OTHER

    def gem_map(self, it: Any) -> None:
        it.offset = 0

    def g2d_get_ver(self, it: Any) -> None:
        it.major, it.minor = 4, 1

    def g2d_set_cmdlist(self, it: Any) -> None:
        commands = (uapi.Command * it.cmd_nr).from_address(it.cmd)
        buffers = (uapi.Command * it.cmd_buf_nr).from_address(it.cmd_buf)
        user = next(b for b in buffers if b.offset & uapi.G2D_BUF_USERPTR)
        assert user.data < 1 << 32
        told = uapi.Userptr.from_address(user.data)
        self.users.append((told.userptr, told.size))
        if self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))
        self.lists.append(
            (
                {c.offset: c.data for c in commands},
                {b.offset & ~uapi.G2D_BUF_USERPTR: b.data for b in buffers if b is not user}
                | {user.offset & ~uapi.G2D_BUF_USERPTR: USER},
            )
        )

    def g2d_exec(self, it: Any) -> None:
        self.ran.append(len(self.lists))
        for registers, buffers in self.lists:
            size = (registers[0x414] >> 16) * exynos_g2d.STRIDE
            address = self.users[-1][0]
            if buffers[0x404] == USER:
                access.poke(address, self.gem.read_bytes()[:size])
            else:
                with self.gem.open("r+b") as file:
                    file.write(access.peek(address, size))
        self.lists.clear()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver(tmp_path / "renderD128")
    monkeypatch.setattr(uapi, "ioctl", made.ioctl)
    yield made


@pytest.fixture
def memory() -> mmap.mmap:
    return mmap.mmap(-1, exynos_g2d.LENGTH)


def words(*numbers: int) -> array[int]:
    return array("Q", [frames.PRESENT | number for number in numbers])


def buffer(memory: mmap.mmap) -> Buffer:
    return Buffer(ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory))


def opened(driver: Driver, direction: Direction) -> ExynosG2dSession:
    node = Node(str(driver.gem), "exynos", "platform:exynos-drm", "", "dma-map", (), "")
    pinner = ExynosG2dPinner(node)
    assert pinner.name == "exynos-g2d-renderd128"
    return pinner.open(direction)


def test_the_pin_reaches_the_first_page_only(driver: Driver, memory: mmap.mmap) -> None:
    with opened(driver, Direction.CAPTURE) as session:
        result = session.pin(buffer(memory))
        assert result == ("DRM_IOCTL_EXYNOS_G2D_SET_CMDLIST", 0, 0)
        ((registers, buffers),) = driver.lists
        assert registers[0x414] == registers[0x314] == 1 << 16 | 1
        assert buffers == {0x404: USER, 0x304: OTHER}
        assert driver.users == [(buffer(memory).address, exynos_g2d.LENGTH)]


def test_a_refusal_is_in_the_result(driver: Driver, memory: mmap.mmap) -> None:
    driver.refuse = EFAULT
    with opened(driver, Direction.OUTPUT) as session:
        assert session.pin(buffer(memory)).errno == EFAULT
        session.stop()
    assert driver.ran == []


@pytest.mark.parametrize("direction", list(Direction))
def test_data_goes_through_as_far_as_is_safe(
    driver: Driver, memory: mmap.mmap, direction: Direction
) -> None:
    with opened(driver, direction) as session:
        it = buffer(memory)
        session.pin(it)
        it.pinned = words(5, 6, 9, 10)
        moved = session.transfer(it)
        assert moved is not None
        assert moved.sent == moved.arrived
        assert len(moved.sent) == 2 * mm.PAGE
        assert driver.ran == [2]


def test_frames_that_are_known_to_be_ours_may_be_reached(
    memory: mmap.mmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = buffer(memory)
    found.pinned = words(5, 9, 8, 7)
    there = {1: [6], 2: [7], 3: [8], 4: [9]}
    monkeypatch.setattr(frames, "frames", lambda address, length: there[address])
    assert exynos_g2d._reach(found) == mm.PAGE
    found.neighbours = (1, 2, 3, 4)
    assert exynos_g2d._reach(found) == exynos_g2d.LENGTH
    assert following(found) == 4
    there[2] = [70]  # moved by the pin, or never a neighbour
    assert following(found) == 1
    found.pinned = array("Q", [0])
    assert exynos_g2d._reach(found) == 0
    found.pinned = None  # not pinned yet: what the process has now
    monkeypatch.setattr(frames, "entries", lambda *_: words(7, 8, 1))
    assert exynos_g2d._reach(found) == 2 * mm.PAGE


def test_stop_runs_what_is_pending(driver: Driver, memory: mmap.mmap) -> None:
    with opened(driver, Direction.CAPTURE) as session:
        session.pin(buffer(memory))
        session.stop()
        session.stop()
    assert driver.ran == [1]


def test_only_exynos_nodes_are_told_of(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "renderD129"
    other.touch()
    names = {str(driver.gem): "exynos", str(other): "i915"}
    monkeypatch.setattr(
        exynos_g2d.drm, "driver", lambda fd: names[str(Path(f"/proc/self/fd/{fd}").readlink())]
    )
    nodes = [(str(driver.gem), "platform:exynos-drm"), (str(other), "pci:1")]
    found = exynos_g2d.survey((), nodes)
    assert [p.name for p in found.pinners] == [
        "exynos-g2d-renderd128", "exynos-g2d-renderd128-async",
    ]  # fmt: skip
    assert [p.slow for p in found.pinners] == [False, True]
    assert [n.card for n in found.nodes] == ["G2D 4.1"]
    assert exynos_g2d.survey(["vivid"], nodes).nodes == []
    chosen = exynos_g2d.survey(["*-async"], nodes)
    assert [p.name for p in chosen.pinners] == ["exynos-g2d-renderd128-async"]
