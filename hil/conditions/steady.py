# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.conditions.base import Condition

if TYPE_CHECKING:
    from hil.conditions.base import Scene


class Steady(Condition):
    """The plain case: pin, look, release."""

    name = "steady"
    summary = "nothing happens while the memory is pinned"
    holds = (
        "accepted or refused as the rule says; each page pinned once, none in ZONE_MOVABLE or CMA; "
        "no page moves; what the device writes is what the process reads, and the other way round; "
        "the pages are still pinned when the data has gone through, and no pin is left at the end"
    )
    why = "Documentation/core-api/pin_user_pages.rst; docs/rules"
    classes = ("*",)
    everywhere = True
    alone = False

    def verify(self, scene: Scene) -> None:
        more = scene.session.extra_pages - scene.extra_first
        scene.check_held("when the data has gone through", scene.held_first + more)
