# SPDX-License-Identifier: GPL-2.0-or-later
"""Other builds of some modules, put into a guest that is up: quicker than a boot with each.

The guest takes out all that depends on them, and loads it again (fixtures/guest.py).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence

from hil.errors import NotCompletedError
from hil.lab import modules
from hil.lab.board import Board
from hil.lab.kernels import Kernel
from hil.lab.modules import Own
from hil.lab.qemu import LostVmError, Vm, patient_line

SECONDS = 60.0
"""How long it may take to load them."""


def order(vm: Vm, own: Sequence[Own], again: Sequence[str]) -> None:
    """Have the guest load ``own`` in place of what it has, with all of ``again`` in that order.

    NotCompletedError with the guest's words when it can't.
    """
    packed = {
        module.name: base64.b64encode(zlib.compress(modules.read(module.file), 3)).decode()
        for module in own
    }
    names = ", ".join(module.name for module in own)
    try:
        vm.send({"modules": packed, "again": list(again)})
        line = patient_line(vm, SECONDS)
    except LostVmError as error:
        raise NotCompletedError(f"the guest went down as it loaded {names}: {error}") from error
    answer = json.loads(line) if line else {"error": "it says nothing"}
    if failed := answer.get("error"):
        raise NotCompletedError(
            f"the guest does not load {names}: {failed}", f"Its console ends:\n{vm.tail(10)}"
        )


def possible(board: Board, own: Sequence[Own]) -> bool:
    """Whether a guest of the snapshot can be given the modules when it is up."""
    models = board.machine.silicon if board.machine else ()
    held = bool(board.guest.webcams or models or board.guest.build)
    return not held and all(module.replaces is not None for module in own)


def affected(
    board: Board, kernel: Kernel, loaded: Sequence[Own], own: Sequence[Own]
) -> list[str]:  # fmt: skip
    """The modules of a board that have to be loaded again with ``own``, in load order.

    ``loaded`` are those that are not the kernel's own among what it has loaded.
    """
    stock = modules.index(kernel)
    wanted = [need for module in loaded for need in module.needs]
    names = modules.closure(kernel, [*wanted, *board.guest.drivers, *board.guest.modules]).names
    names += [module.name for module in loaded if module.name not in names]
    needs = {name: {modules.name_of(path) for path in stock.needs.get(name, ())} for name in names}
    for module in (*loaded, *own):
        needs[module.name] = set(module.needs)
    return dependents(names, needs, {module.name for module in own})


def dependents(
    names: Sequence[str], needs: Mapping[str, set[str]], changed: set[str]
) -> list[str]:  # fmt: skip
    """Those of ``names``, a load order, that are ``changed`` or need what is."""
    found: dict[str, None] = {}
    for name in names:
        if name in changed or not needs[name].isdisjoint(found):
            found[name] = None
    return list(found)
