# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python TW6800, driven as the stock tw68 drives it: programs in RAM, registers, one pin."""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hil.evidence.pictures import CARD, Shape
from hil.silicon import models, tw68
from hil.silicon.guest_memory import part
from hil.silicon.tw68 import (
    DMA_CONTROL,
    DMA_DONE,
    DMA_ERROR,
    DMA_PROGRAM,
    IN_LINE,
    INTERRUPT,
    INTERRUPT_MASK,
    INTERRUPT_STATUS,
    JUMP,
    LINE_START,
    RUNNING,
    SYNC_EVEN,
    SYNC_ODD,
    Tw68,
)

RAM_AT, RAM = 0x100000, 1 << 20
PROGRAM, PICTURE = RAM_AT, RAM_AT + 0x10000
WHOLE = Shape("BGR3", 64, 8, 192, 1536)


class Pin:
    """Where the interrupt goes."""

    def __init__(self) -> None:
        self.levels: list[bool] = []
        self.changed = threading.Event()

    def msi(self, vector: int = 0) -> bool:
        return False

    def intx(self, level: bool) -> None:
        self.levels.append(level)
        self.changed.set()


class Guest:
    """RAM, a card and the driver's part."""

    def __init__(self, options: dict[str, str]) -> None:
        self.card = Tw68.make({"rate": "500", **options}, extended=False)
        self.card.interrupts = self.pin = Pin()
        fd = os.memfd_create("ram")
        os.ftruncate(fd, RAM)
        self.ram = mmap.mmap(fd, RAM)
        self.card.memory.add(part(RAM_AT, RAM, fd, 0))
        os.close(fd)

    def load(self, words: list[tuple[int, int]]) -> None:
        self.ram[: 8 * len(words)] = b"".join(struct.pack("<II", *word) for word in words)

    def field(self, sync: int, first: int, lines: int, width: int = 192) -> list[tuple[int, int]]:
        """As tw68_risc_field makes it: every other line of a picture, the last with interrupt."""
        words = [(sync << 28, 0)]
        for line in range(lines):
            place = PICTURE + (first + 2 * line) * width
            words += [
                (LINE_START << 28 | 100, place),
                (IN_LINE << 28 | 100 << 12 | width - 100, place + 100),
            ]
        return words

    def whole(self) -> list[tuple[int, int]]:
        words = self.field(SYNC_ODD, 0, 4) + self.field(SYNC_EVEN, 1, 4)
        last, place = words[-1]
        return [*words[:-1], (last | INTERRUPT, place), (JUMP << 28, PROGRAM)]

    def start(self, mask: int = DMA_DONE | DMA_ERROR) -> None:
        self.card.bar_write(0, INTERRUPT_MASK, 4, mask)
        self.card.bar_write(0, DMA_PROGRAM, 4, PROGRAM)
        self.card.bar_write(0, DMA_CONTROL, 4, RUNNING)

    def stop(self) -> None:
        self.card.bar_write(0, DMA_CONTROL, 4, 0)

    def status(self) -> int:
        return self.card.bar_read(0, INTERRUPT_STATUS, 4)

    def acknowledge(self) -> None:
        self.card.bar_write(0, INTERRUPT_STATUS, 4, self.status())

    def picture(self) -> bytes:
        start = PICTURE - RAM_AT
        return self.ram[start : start + WHOLE.size]

    def interrupted(self) -> bool:
        return self.pin.changed.wait(5)


@pytest.fixture
def make() -> Iterator[Callable[..., Guest]]:
    made: list[Guest] = []

    def new(**options: str) -> Guest:
        made.append(Guest({name.replace("_", "-"): text for name, text in options.items()}))
        return made[-1]

    yield new
    for guest in made:
        guest.stop()


def test_a_picture_of_two_fields_lands_by_physical_address(make: Callable[..., Guest]) -> None:
    guest = make(rate="4")  # the stop comes before the next picture, on a busy machine too
    guest.load(guest.whole())
    guest.start()
    assert guest.interrupted()
    assert guest.status() & DMA_DONE
    guest.stop()
    number = CARD.number(guest.picture(), WHOLE)
    assert number >= 1
    assert guest.picture() == CARD.draw(number, WHOLE)


def test_one_field_alone_is_a_frame_each_time(make: Callable[..., Guest]) -> None:
    guest = make()
    words = guest.field(SYNC_EVEN, 0, 4)
    guest.load([*words, (JUMP << 28, PROGRAM)])
    of = WHOLE._replace(first=1, step=2)
    for number in (1, 2, 3):
        guest.card._program = PROGRAM
        guest.card.field()
        lines = [guest.picture()[i * 384 : i * 384 + 192] for i in range(4)]
        assert b"".join(lines) == CARD.draw(number, of)[: 4 * 192]


def test_the_pin_follows_status_and_mask(make: Callable[..., Guest]) -> None:
    guest = make()
    guest.load(guest.whole())
    guest.start(mask=0)
    time.sleep(0.02)
    assert guest.status() & DMA_DONE
    assert guest.pin.levels == []
    guest.card.bar_write(0, INTERRUPT_MASK, 4, DMA_DONE)
    assert guest.pin.levels == [True]
    guest.card.bar_write(0, INTERRUPT_MASK, 4, 0)
    assert guest.pin.levels == [True, False]


def test_a_stop_takes_a_latched_interrupt_back(make: Callable[..., Guest]) -> None:
    guest = make()
    guest.load(guest.whole())
    guest.start()
    assert guest.interrupted()
    guest.stop()
    assert guest.status() == 0
    assert guest.pin.levels[-1] is False
    before = guest.picture()
    time.sleep(0.02)
    assert guest.picture() == before, "it wrote after the stop"


def test_a_late_interrupt_arrives_after_the_stop(make: Callable[..., Guest]) -> None:
    guest = make(late_interrupt="50")
    guest.load(guest.whole())
    guest.start()
    while not guest.status():
        time.sleep(0.001)
    guest.stop()
    assert guest.pin.levels == []
    assert guest.interrupted()
    assert guest.pin.levels == [True]
    assert guest.status() & DMA_DONE


@pytest.mark.parametrize("word", [(LINE_START << 28 | 8, 0x10), (0x5 << 28, 0)], ids=["bus", "op"])
def test_a_bad_program_is_the_cards_error_interrupt(
    make: Callable[..., Guest], word: tuple[int, int]
) -> None:
    guest = make()
    guest.load([(SYNC_ODD << 28, 0), word])
    guest.start()
    assert guest.interrupted()
    assert guest.status() == DMA_ERROR
    assert guest.card.bar_read(0, DMA_CONTROL, 4) == 0


def test_a_program_without_a_field_ends(
    make: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tw68, "_MOST_INSTRUCTIONS", 100)
    guest = make()
    guest.load([(JUMP << 28, PROGRAM)])
    guest.start()
    assert guest.interrupted()
    assert guest.status() == DMA_ERROR


def test_a_reset_stops_it(make: Callable[..., Guest]) -> None:
    guest = make()
    guest.load(guest.whole())
    guest.start()
    assert guest.interrupted()
    guest.card.reset()
    assert guest.card.bar_read(0, DMA_CONTROL, 4) == 0
    assert guest.pin.levels[-1] is False


def test_who_it_is_and_what_it_may_be_told() -> None:
    assert models.find("tw68") is Tw68
    card = Tw68.make({}, extended=False)
    assert card.config_read(0, 4) == 0x68001797
    assert card.config_read(0x2C, 4) == 0x11001AF4
    assert card.has_intx
    with pytest.raises(ValueError, match="unknown option 'fps'"):
        Tw68.make({"fps": "3"}, extended=False)
    with pytest.raises(ValueError, match="rate: found 0"):
        Tw68.make({"rate": "0"}, extended=False)
