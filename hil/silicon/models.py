# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds a model by the name that a board file gives it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from hil.errors import HilError
from hil.silicon.device import PciDevice
from hil.silicon.registers import RegisterDevice

NAMES = {
    "g2d": "hil.silicon.g2d:G2d",
    "gaudi": "hil.silicon.gaudi.card:Gaudi",
    "goya": "hil.silicon.gaudi.goya:Goya",
    "tw68": "hil.silicon.tw68:Tw68",
}
"""The project's own: name -> "module:Class"."""

Model = type[PciDevice] | type[RegisterDevice]


def find(name: str, where: str = "") -> Model:
    """The class of a model of NAMES, or of "FILE.py:Class" or "package.module:Class".

    HilError when there is none.
    """
    module, _, kind = NAMES.get(name, name).rpartition(":")
    try:
        found = getattr(_module(module), kind) if module else None
    except (ImportError, AttributeError, OSError):
        found = None
    if not isinstance(found, type) or not issubclass(found, (PciDevice, RegisterDevice)):
        known = ", ".join(NAMES) or "none"
        raise HilError(
            f"{where + ': ' if where else ''}no device model {name!r}",
            f"Models here: {known}.  One of your own is named as FILE.py:Class.",
        )
    return found


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
