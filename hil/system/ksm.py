# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel samepage merging (mm/ksm.c): switched on for a while, at full speed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hil.system.switches import switched, value

if TYPE_CHECKING:
    from hil.system.guard import Guard

ROOT = "/sys/kernel/mm/ksm"


@contextlib.contextmanager
def merging(guard: Guard | None) -> Iterator[None]:
    """ksmd runs while the body does; what it has merged stays merged."""
    wanted: dict[str, tuple[str, ...]] = {}
    if value(f"{ROOT}/advisor_mode"):  # 6.8; the advisor would set the speed itself
        wanted[f"{ROOT}/advisor_mode"] = ("none",)
    if value(f"{ROOT}/smart_scan"):  # 6.7; skips pages that it could not merge before
        wanted[f"{ROOT}/smart_scan"] = ("0",)
    wanted[f"{ROOT}/pages_to_scan"] = ("20000",)
    wanted[f"{ROOT}/sleep_millisecs"] = ("1",)
    wanted[f"{ROOT}/run"] = ("1",)
    with switched(guard, wanted):
        yield
