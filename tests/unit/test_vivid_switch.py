# SPDX-License-Identifier: GPL-2.0-or-later
"""vivid's loop: a switch that something else puts back is set again."""

from __future__ import annotations

import pytest

from hil.pinners import vivid


class Switch:
    """A control that goes back to 0 by itself, so many times after it was set."""

    def __init__(self, lost: int) -> None:
        self.value, self.lost, self.writes, self.looks = 0, lost, 0, 0

    def get_control(self, fd: int, identity: int) -> int:
        self.looks += 1
        if self.value and self.lost:
            self.value, self.lost = 0, self.lost - 1
        return self.value

    def set_control(self, fd: int, identity: int, value: int) -> None:
        self.value, self.writes = value, self.writes + 1


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_it_is_set_until_it_stays(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(lost)
    monkeypatch.setattr(vivid, "controls", switch)
    assert vivid._closed(3, 7, 2) == (7, 2, 0)
    assert (switch.value, switch.writes) == (2, 1 + lost)


def test_one_that_never_stays_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(10**9)
    monkeypatch.setattr(vivid, "controls", switch)
    monkeypatch.setattr(vivid, "_SETTLE", 0.1)
    vivid._closed(3, 7, 2)
    assert switch.writes > 1
