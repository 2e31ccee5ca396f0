# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing happens."""

from __future__ import annotations

from hil.conditions.base import Condition


class Steady(Condition):
    """The plain case: pin, look, release."""

    name = "steady"
    summary = "nothing happens while the memory is pinned"
