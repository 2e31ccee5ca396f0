# SPDX-License-Identifier: GPL-2.0-or-later
"""With which flags a driver pins: kprobe events on mm's pin functions, in a tracefs instance.

A wrong zone shows a missing FOLL_LONGTERM only where pages happen to lie in one; the flags show it
always.  Documentation/trace/kprobetrace.rst; $argN needs 4.20.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hil.system.guard import Guard
from hil.system.release import Release

_TRACEFS = Path("/sys/kernel/tracing")
_NAME = "hil-pins"
_GROUP = "hil_pins"
WRITE, LONGTERM, FORCE = "FOLL_WRITE", "FOLL_LONGTERM", "FOLL_FORCE"
_EVENT = re.compile(
    r"-(?P<pid>\d+)\s.*?: (?P<function>\w+): \(.*?\) "
    r"start=0x(?P<start>[0-9a-f]+) pages=(?P<pages>-?\d+) flags=0x(?P<flags>[0-9a-f]+)"
)


class Call(NamedTuple):
    """One call of a pin function; ``flags`` by name, those that say something about a driver."""

    function: str
    start: int
    pages: int
    flags: tuple[str, ...]
    value: int
    """All flags, as passed."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "start": hex(self.start),
            "pages": self.pages,
            "flags": list(self.flags),
            "value": hex(self.value),
        }


def names(value: int, release: Release) -> tuple[str, ...]:
    """Flags by name: include/linux/mm.h up to 6.2, include/linux/mm_types.h with 6.3's numbers."""
    new = release >= Release(6, 3, rc=0)
    bits = {WRITE: 0x1, FORCE: 0x8 if new else 0x10, LONGTERM: 0x100 if new else 0x10000}
    return tuple(name for name, bit in bits.items() if value & bit)


class Probes:
    """Armed probes, whose events come out of a pipe of their own."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def _read(self) -> str:
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._pipe, 65536):
                data += more
        return data.decode("ascii", "replace")

    def skip(self) -> None:
        """Forget all events so far."""
        self._read()


class PinCalls(Probes):
    """Probes on pin functions; ``skip`` what came, then ``seen`` tells a process's calls since."""

    def __init__(self, pipe: int, release: Release) -> None:
        super().__init__(pipe)
        self._release = release

    @classmethod
    def arm(
        cls, functions: Iterable[str], release: Release, guard: Guard | None,
        tracefs: Path = _TRACEFS,
    ) -> PinCalls | None:  # fmt: skip
        """Put a probe on each function; None where this kernel or machine does not let us.

        The guard takes probes and instance away again.
        """
        instance = tracefs / "instances" / _NAME
        try:
            for function in functions:
                if guard is not None:
                    guard.will_append(tracefs / "kprobe_events", f"-:{_GROUP}/{function}")
                append(
                    tracefs / "kprobe_events",
                    f"p:{_GROUP}/{function} {function} "
                    "start=$arg1:x64 pages=$arg2:s32 flags=$arg3:x32",
                )
            if guard is not None:
                guard.will_rmdir(instance)
            instance.mkdir(exist_ok=True)
            (instance / "events" / _GROUP / "enable").write_text("1")
            pipe = os.open(instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        return cls(pipe, release)

    def seen(self, pid: int) -> list[Call]:
        """The calls that a process has made since the last question."""
        text = self._read()
        return [
            Call(
                found["function"],
                int(found["start"], 16),
                int(found["pages"]),
                names(int(found["flags"], 16), self._release),
                int(found["flags"], 16),
            )
            for found in map(_EVENT.search, text.splitlines())
            if found is not None and int(found["pid"]) == pid
        ]


def append(path: Path, text: str) -> None:
    """Add a line to kprobe_events; one that is there already does no harm.  OSError."""
    # Truncating kprobe_events would take away the probes of others.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except FileExistsError:
        pass  # a suite before us was killed, and its guard too
    finally:
        os.close(fd)
