# SPDX-License-Identifier: GPL-2.0-or-later
"""The errno before a driver makes another of it: a return probe on a function of the kernel.

Documentation/trace/kprobetrace.rst.  videobuf2's dma-sg tells user space ENOMEM whatever went
wrong; what vb2_create_framevec gave is the reason.
"""

from __future__ import annotations

import os
import re
from errno import EOPNOTSUPP, errorcode
from pathlib import Path

from hil.evidence.pincalls import Probes, append
from hil.system.guard import Guard

_TRACEFS = Path("/sys/kernel/tracing")
_NAME = "hil-answers"
_GROUP = "hil_answers"
_EVENT = re.compile(r"-(?P<pid>\d+)\s.*\) value=(?P<value>-?\d+)")
_LARGEST = 4095  # MAX_ERRNO, include/linux/err.h


class Answers(Probes):
    """A return probe; ``skip`` what came, then ``seen`` tells a process's answers since."""

    @classmethod
    def arm(cls, function: str, guard: Guard | None, tracefs: Path = _TRACEFS) -> Answers | None:
        """Put the probe; None where this kernel or machine does not let us.

        The guard takes it away again.
        """
        instance = tracefs / "instances" / _NAME
        try:
            if guard is not None:
                guard.will_append(tracefs / "kprobe_events", f"-:{_GROUP}/{function}")
            append(tracefs / "kprobe_events", f"r:{_GROUP}/{function} {function} value=$retval:s64")
            if guard is not None:
                guard.will_rmdir(instance)
            instance.mkdir(exist_ok=True)
            (instance / "events" / _GROUP / "enable").write_text("1")
            pipe = os.open(instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        return cls(pipe)

    def seen(self, pid: int) -> list[str]:
        """The answers that a process got, errnos by name, anything else as "0"."""
        text = self._read()
        found = [m for m in map(_EVENT.search, text.splitlines()) if m and int(m["pid"]) == pid]
        return [_named(int(one["value"])) for one in found]


def _named(value: int) -> str:
    if not -_LARGEST <= value < 0:
        return "0"
    # ENOTSUP is the same number.
    return "EOPNOTSUPP" if -value == EOPNOTSUPP else errorcode.get(-value, str(-value))
