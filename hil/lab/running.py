# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that is up and has told its cells."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hil.lab import silicon
from hil.lab.qemu import Vm


class Guest:
    """A running guest that has told its cells.  Leaving the context ends it."""

    def __init__(
        self,
        vm: Vm,
        said: dict[str, Any],
        how: str,
        ram_folder: Path | None,
        models: silicon.Models | None = None,
    ) -> None:
        self.vm = vm
        self.models = models
        """The device models that run beside it, where the board has any."""
        self.cells: list[str] = said["cells"]
        self.slow = frozenset(said["slow"])
        self.destructive = frozenset(said.get("destructive", ()))
        self.suite: dict[str, Any] = said["suite"]
        self.uptimes: dict[str, float] = said["uptimes"]
        self.how = how
        """"cold" or "snapshot"."""
        self._ram_folder = ram_folder

    def failure(self) -> str:
        """Which device model beside it failed, in words; empty while none has."""
        return self.models.failure() if self.models is not None else ""

    def close(self) -> None:
        """End the guest; what it wrote to its memory goes with it."""
        try:
            self.vm.kill()
        finally:
            if self.models is not None:
                self.models.close()
            if self._ram_folder is not None:
                shutil.rmtree(self._ram_folder, ignore_errors=True)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
