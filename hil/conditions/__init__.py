# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens while pinned: one file a condition."""

from __future__ import annotations

from hil.conditions.base import Condition
from hil.conditions.job import JOBS
from hil.conditions.misbehave import MISBEHAVING
from hil.conditions.steady import Steady

__all__ = ["Condition", "all_conditions"]

_CONDITIONS: tuple[type[Condition], ...] = (Steady, *MISBEHAVING, *JOBS)


def all_conditions() -> dict[str, Condition]:
    """Every condition by name, in the order that reports show them."""
    return {kind.name: kind() for kind in _CONDITIONS}
