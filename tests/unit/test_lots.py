# SPDX-License-Identifier: GPL-2.0-or-later
"""How cells are handed out to guests."""

from __future__ import annotations

from collections import Counter

from hil.lab.lots import Lots

CELLS = [f"cell-{n}" for n in range(100)]


def taken(lots: Lots) -> list[list[str]]:
    found = []
    while lot := lots.take(fresh=True):
        found.append(list(lot))
    return found


def test_every_cell_is_handed_out_once_and_in_order() -> None:
    for guests in (1, 2, 3):
        lots = Lots(CELLS)
        lots.guests = guests
        assert [cell for lot in taken(lots) for cell in lot] == CELLS
        assert len(lots) == 0
        assert not lots.worth_a_guest


def test_the_last_lots_are_small_when_guests_share() -> None:
    lots = Lots(CELLS)
    lots.guests = 2
    sizes = [len(lot) for lot in taken(lots)]
    assert sizes[0] > 10
    assert sizes[-3:] == [1, 1, 1]


def test_it_is_nearly_over_for_each_guest_before_it_is_for_all() -> None:
    lots = Lots(CELLS, alone=CELLS[:5])
    lots.guests = 2
    seen = []
    while len(lots) > 5:
        lots.take(fresh=False)
        seen.append(lots.nearly_over)
    assert seen[-4:] == [False, False, True, True]
    lots = Lots(CELLS)
    while lots.take(fresh=False):
        assert lots.nearly_over is (len(lots) == 0)


def test_cells_that_may_wreck_the_guest_come_last_each_in_a_fresh_one() -> None:
    lots = Lots(CELLS, alone=CELLS[10:12])
    shared = [cell for lot in iter(lambda: lots.take(fresh=False), Counter()) for cell in lot]
    assert shared == CELLS[:10] + CELLS[12:]
    assert lots.worth_a_guest
    assert len(lots) == 2
    assert taken(lots) == [[CELLS[10]], [CELLS[11]]]
