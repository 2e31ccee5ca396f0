# SPDX-License-Identifier: GPL-2.0-or-later
"""Drivers that a stock kernel lacks, built at run time from the distribution's source package."""

from __future__ import annotations

from hil.lab.drivers.build import Built, get
from hil.lab.drivers.recipe import FOLDER, Recipe, load

__all__ = ["FOLDER", "Built", "Recipe", "get", "load"]
