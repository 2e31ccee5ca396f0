# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens before, while and after a pin: one class a condition, one file a family."""

from __future__ import annotations

from hil.conditions.base import Condition, Scene
from hil.conditions.capture import CAPTURE
from hil.conditions.ends import ENDS
from hil.conditions.files import FILES
from hil.conditions.forks import FORKS
from hil.conditions.hotplug import HOTPLUG
from hil.conditions.huge import HUGE_PAGES
from hil.conditions.job import JOBS
from hil.conditions.mapping import MAPPING
from hil.conditions.migrate import MIGRATE
from hil.conditions.misbehave import MISBEHAVING
from hil.conditions.power import POWER
from hil.conditions.pressure import PRESSURE
from hil.conditions.races import RACES
from hil.conditions.reclaim import RECLAIM
from hil.conditions.repeated import REPEATED
from hil.conditions.steady import Steady
from hil.conditions.streaming import STREAMING
from hil.conditions.userfault import USERFAULT

__all__ = ["Condition", "Scene", "all_conditions"]

FAMILIES: tuple[tuple[str, tuple[type[Condition], ...]], ...] = (
    ("Nothing", (Steady,)),
    ("Reclaim", RECLAIM),
    ("Memory pressure in a control group", PRESSURE),
    ("Migration, NUMA, offline", MIGRATE),
    ("The mapping changes", MAPPING),
    ("fork", FORKS),
    ("Merging, splitting, collapsing", HUGE_PAGES),
    ("The file changes", FILES),
    ("userfaultfd", USERFAULT),
    ("End of life", ENDS),
    ("The call is made many times, or otherwise in between", REPEATED),
    ("Races", RACES),
    ("Streaming, with devices whose pictures are known", STREAMING),
    ("The device or its driver goes away", HOTPLUG),
    ("The machine sleeps", POWER),
    ("Capture devices", CAPTURE),
    ("Jobs of memory-to-memory devices", JOBS),
    ("Misbehaviour, to test the lab itself", MISBEHAVING),
)
"""Every condition by family, in the order that reports show them."""


def all_conditions() -> dict[str, Condition]:
    """Every condition by name, in the order that reports show them."""
    return {kind.name: kind() for _, kinds in FAMILIES for kind in kinds}
