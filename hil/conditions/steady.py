# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing happens."""

from __future__ import annotations

from hil.conditions.base import Condition


class Steady(Condition):
    """The plain case: pin, look, release."""

    name = "steady"
    summary = "nothing happens while the memory is pinned"
    holds = (
        "accepted or refused as the rule says; each page pinned once, none in ZONE_MOVABLE or CMA; "
        "no page moves; what the device writes is what the process reads, and the other way round; "
        "no pin is left at the end"
    )
    why = "Documentation/core-api/pin_user_pages.rst; docs/rules"
    classes = ("*",)
    everywhere = True
