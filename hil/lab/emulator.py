# SPDX-License-Identifier: GPL-2.0-or-later
"""Crashes that are the emulator's own and say nothing of the kernel in the guest.

A kernel that changes its own code (a static key, a probe) puts a breakpoint there first, tells
every CPU, and takes it away when all have answered (arch/x86/kernel/alternative.c text_poke_bp,
smp_text_poke_batch_finish since 6.16).  Under TCG with several CPUs a CPU may still run the
translation of the breakpoint after that; nobody knows the breakpoint any more, and the kernel dies
of it (poke_int3_handler, then die("int3")).  Seen with QEMU 7.2, on busy hosts, while a kernel
boots.  No driver plants a breakpoint: a BUG is another instruction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# 5.10: "int3: 0000 [#1] SMP", from 6.9 on: "Oops: int3: 0000 [#1]"
_INT3 = re.compile(r"\bint3: 0000 \[#1\]")
_FIRST_FAULT = re.compile(r"\[#1\]")


def fault(console: Iterable[str]) -> str:
    """What went wrong in the emulator, by the console of a dead guest; empty when nothing did."""
    first = next((line for line in console if _FIRST_FAULT.search(line)), "")
    return "a stale breakpoint of QEMU's translator" if _INT3.search(first) else ""
