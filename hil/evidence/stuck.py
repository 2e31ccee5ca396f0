# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a process that does not come back is stuck.

Only files that take no lock of the process's memory are read: /proc/PID/maps and cmdline wait for
the mmap lock, which a stuck pin may hold.  Even so a read may block behind a kernel that is badly
off, so callers do this in a process of their own that they can give up.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hil.evidence.log import KernelLog

_MOST_LINES = 400
_QUIET = 0.3


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"


def _stat(pid: int) -> tuple[int, int]:
    """Parent and process group; OSError when the process is gone."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[2])


def family(leader: int) -> list[int]:
    """The process, every other one of its process group, and all that descend from them."""
    known = {leader}
    links: dict[int, tuple[int, int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names only
        if entry.isdigit():
            try:
                links[int(entry)] = _stat(int(entry))
            except (OSError, ValueError):
                continue
    size = 0
    while size != len(known):
        size = len(known)
        known |= {
            pid for pid, (parent, group) in links.items() if parent in known or group in known
        }
    return [leader, *sorted(known - {leader})]


def running(pids: list[int]) -> bool:
    """True when a thread of any of them is on a CPU or waits for one: it has no stack to show."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/stat"):
            text = _read(task)
            if text[text.rfind(")") + 2 :].startswith("R"):
                return True
    return False


def stacks(pids: list[int]) -> str:
    """Name, state, wait channel, system call and kernel stack of every thread, as text."""
    parts: list[str] = []
    for pid in pids:
        try:
            threads = sorted(os.listdir(f"/proc/{pid}/task"), key=int)  # noqa: PTH208
        except OSError:
            continue
        for thread in threads:
            task = Path(f"/proc/{pid}/task/{thread}")
            state = next(
                (
                    line.partition(":")[2].strip()
                    for line in _read(task / "status").splitlines()
                    if line.startswith("State:")
                ),
                "?",
            )
            parts.append(
                f"process {pid} thread {thread} ({_read(task / 'comm')}) state {state}\n"
                f"  waits in {_read(task / 'wchan')}, system call {_read(task / 'syscall')}"
            )
            stack = _read(task / "stack")
            parts += [f"  {line}" for line in stack.splitlines()] or ["  (no kernel stack)"]
    return "\n".join(parts)


def task_dump(pids: list[int], trigger: str = "/proc/sysrq-trigger") -> str | None:
    """The kernel's own dump of blocked tasks; of busy CPUs too when one of ``pids`` is running.

    Documentation/admin-guide/sysrq.rst, keys w and l.  The dump of all tasks (t) is not asked for:
    it overruns the log buffer, and the blocked ones are in this one.  None without sysrq.
    """
    if not Path(trigger).exists():
        return None
    log = KernelLog()
    log.skip()
    lines: list[str] = []
    try:
        for key in ("w", "l") if running(pids) else ("w",):
            Path(trigger).write_text(key)
            # The other CPUs print their part when the interrupt reaches them.
            until = time.monotonic() + _QUIET if key == "l" else 0.0
            lines += log.lines()
            while time.monotonic() < until and len(lines) < _MOST_LINES:
                time.sleep(0.02)
                lines += log.lines()
    except OSError as error:
        lines.append(f"({trigger}: {error.strerror})")
    finally:
        log.close()
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"({len(lines) - _MOST_LINES} more lines)"]
    return "\n".join(lines)
