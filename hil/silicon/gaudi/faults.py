# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways in which the card can fail on purpose, for tests of the suite itself.

``options = { fault = "no-answer" }`` in the board file's machine.silicon.
"""

from __future__ import annotations

from collections.abc import Mapping

from hil.silicon.gaudi import layout

NAMES = ("no-answer", "wrong-status", "wrong-result", "dropped-interrupt", "reset-while-mapped")


class Faults:
    """Which one the card has, if any: one of NAMES."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Faults:
        """Of a board file's options; ValueError says what is wrong with them."""
        for key in options:
            if key != "fault":
                raise ValueError(f"unknown option {key!r}, expected fault")
        name = options.get("fault", "")
        if name and name not in NAMES:
            raise ValueError(f"fault {name!r}, expected one of {', '.join(NAMES)}")
        return cls(name)

    @property
    def no_answer(self) -> bool:
        """No queue is ever served."""
        return self.name == "no-answer"

    @property
    def dropped_interrupt(self) -> bool:
        """Work is done, and nobody is told."""
        return self.name == "dropped-interrupt"

    def boot_status(self) -> int:
        """What the boot loader says once it has its image."""
        if self.name == "wrong-status":
            return layout.DRAM_INIT_FAILED
        return layout.SRAM_AVAILABLE

    def result_bits(self) -> int:
        """The result field of each CPU-CP packet: cpucp_packet_rc, 0 is success."""
        return 1 << 12 if self.name == "wrong-result" else 0

    def reset_now(self, source: int, target: int) -> bool:
        """Whether the card loses all it has at this copy: the first that a user's mapping is in."""
        return self.name == "reset-while-mapped" and max(source, target) >= layout.VIRTUAL_BASE
