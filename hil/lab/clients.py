# SPDX-License-Identifier: GPL-2.0-or-later
"""Test programs of others, run in a guest of the board and kept beside the suite's own results.

They judge nothing here: what they say is theirs.  Each has a guest for itself, for some of them
leave the driver in a state that the next one would suffer from.
"""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

from hil.lab.progress import Say
from hil.lab.qemu import LostVmError
from hil.lab.running import Guest
from hil.lab.virtual import VirtualBoard
from hil.runs.folder import RunFolder

SECONDS = 120.0
"""How long a program may take."""
_GRACE = 30.0


def run(virtual: VirtualBoard, folder: RunFolder, say: Say) -> list[dict[str, Any]]:
    """Run each of the board's clients; what came of them, for run.json.

    ``status`` is the program's, "timeout", or "lost" when the guest went with it.  What it printed
    is in the run folder, clients/NUMBER-PROGRAM.txt.
    """
    found = []
    place = folder.path / "clients"
    place.mkdir(exist_ok=True)
    for number, command in enumerate(virtual.board.guest.clients, 1):
        say(f"running {command}")
        with virtual.start(folder.console) as guest:
            began = time.monotonic()
            status, output = _one(guest, command)
        words = [word for word in shlex.split(command) if "=" not in word]
        file = place / f"{number}-{Path(words[0]).name}.txt"
        file.write_text(output)
        found.append(
            {
                "command": command,
                "status": status,
                "seconds": round(time.monotonic() - began, 1),
                "file": str(file.relative_to(folder.path)),
                "last_line": next((x for x in reversed(output.splitlines()) if x.strip()), ""),
            }
        )
    return found


def _one(guest: Guest, command: str) -> tuple[int | str, str]:
    try:
        guest.vm.send({"client": command, "timeout": SECONDS})
        for line in guest.vm.lines(time.monotonic() + SECONDS + _GRACE):
            message = json.loads(line)
            if message.get("event") == "client":
                return message["status"], message["output"]
    except LostVmError:
        pass
    return "lost", guest.vm.tail(60)
