# SPDX-License-Identifier: GPL-2.0-or-later
"""Cells in lots: guests side by side take a few at a time, so that all are busy to the end."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection, Iterable

CELLS_A_GUEST = 20
"""With fewer cells, another guest costs more than it brings."""
_MOST = 32
"""Cells in a lot: asking for the next one costs a guest less than a cell."""


class Lots:
    """The cells that no guest has been given yet, in their order; one may be there several times.

    ``alone`` are those that may wreck the guest: each goes to a fresh guest that gets no other.
    """

    def __init__(self, cells: Iterable[str], alone: Collection[str] = ()) -> None:
        whole = list(cells)
        self._shared = deque(cell for cell in whole if cell not in alone)
        self._alone = deque(cell for cell in whole if cell in alone)
        self._lock = threading.Lock()
        self.guests = 1
        """How many guests may take lots at the same time; the last lots are small then."""

    def __len__(self) -> int:
        return len(self._shared) + len(self._alone)

    @property
    def nearly_over(self) -> bool:
        """Whether the lot that was taken last may be the last one of its guest."""
        return len(self._shared) < self.guests

    @property
    def worth_a_guest(self) -> bool:
        """Whether there is enough left for one more guest."""
        return len(self._shared) >= CELLS_A_GUEST or len(self._alone) > 1

    def take(self, *, fresh: bool) -> Counter[str]:
        """The next lot, for a guest that has run nothing yet or is ``fresh`` no more.

        Empty when there is none for such a guest.
        """
        with self._lock:
            if self._shared:
                share = (
                    len(self._shared)
                    if self.guests == 1
                    else len(self._shared) // (2 * self.guests)
                )
                count = max(1, min(_MOST, share))
                return Counter(self._shared.popleft() for _ in range(count))
            if self._alone and fresh:
                return Counter((self._alone.popleft(),))
            return Counter()
