# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory whose missing pages are to come from user space (userfaultfd)."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.anonymous import single_pages
from hil.memory.base import PAGE, Buffer, buffer_of, fill, memory_class, place
from hil.uapi import mm, userfaultfd

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


def _armed(length: int, flags: int, features: int, needs: str) -> tuple[Buffer, int]:
    """Untouched memory registered with a userfaultfd of its own."""
    try:
        fd = userfaultfd.new(flags, features)
    except OSError as error:
        raise NotApplicableError(f"userfaultfd: {error.strerror}: needs {needs}") from error
    address, length = single_pages(length)
    buffer = buffer_of(address, length)
    buffer.at_close(os.close, fd)
    userfaultfd.register(fd, address, length)
    buffer.proof = proof.absent(address, length)
    found = proof.flags_of(address)
    proof.must("um" in found, "a range that userfaultfd watches (VmFlags um)", found)
    buffer.proof["VmFlags"] = " ".join(found)
    return buffer, fd


def _refused(buffer: Buffer) -> Buffer:
    """Prove that the kernel itself gets EFAULT for a missing page, and gets it at once."""
    proof.must(not mm.readable(buffer.address), "EFAULT for a missing page", "a page")
    buffer.proof["unreadable_page"] = 0
    buffer.facts["first_page_bad"] = True
    return buffer


class _Handler(threading.Thread):
    """Serves faults until told to stop; a driver that waits in an ioctl has let go of the GIL.

    The first fault brings in the whole range, page by page only if some of it is there already.
    Never read the buffer through ctypes.string_at before: it keeps the GIL and so waits for ever.
    """

    def __init__(self, fd: int, buffer: Buffer) -> None:
        super().__init__(name="userfaultfd", daemon=True)
        self._fd = fd
        self._buffer = buffer
        self._range = (buffer.address, buffer.length)
        self._source = place(buffer.length)
        fill(self._source, buffer.length)
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN | select.POLLHUP)
        start, length = self._range
        served = 0
        while True:
            ready = dict(poll.poll())
            if self._stop_read in ready:
                return
            for fault in userfaultfd.faults(self._fd):
                served += 1
                self._buffer.facts["faults_served"] = served
                try:
                    userfaultfd.copy(self._fd, start, self._source, length)
                except OSError:
                    page = fault // PAGE * PAGE
                    source = self._source + page - start
                    with contextlib.suppress(FileExistsError):
                        userfaultfd.copy(self._fd, page, source, PAGE)

    def stop(self) -> None:
        os.close(self._stop_write)
        self.join()
        os.close(self._stop_read)
        mm.munmap(self._source, self._range[1])


@memory_class(
    "userfaultfd-handler", "missing pages come from a userfaultfd handler that is alive", alone=True
)
def userfaultfd_handler(bench: Bench, length: int, direction: Direction) -> Buffer:
    needs = "CONFIG_USERFAULTFD and root, or vm.unprivileged_userfaultfd=1"
    buffer, fd = _armed(length, 0, 0, needs)
    buffer.facts["faults_served"] = 0
    handler = _Handler(fd, buffer)
    handler.start()
    buffer.at_close(handler.stop)
    return buffer


@memory_class("userfaultfd-user-mode-only", "userfaultfd that does not serve faults of the kernel")
def userfaultfd_user_mode_only(bench: Bench, length: int, direction: Direction) -> Buffer:
    needs = "Linux 5.11 (UFFD_USER_MODE_ONLY) with CONFIG_USERFAULTFD"
    return _refused(_armed(length, userfaultfd.UFFD_USER_MODE_ONLY, 0, needs)[0])


@memory_class("userfaultfd-sigbus", "userfaultfd that answers missing pages with SIGBUS")
def userfaultfd_sigbus(bench: Bench, length: int, direction: Direction) -> Buffer:
    needs = "CONFIG_USERFAULTFD and root, or vm.unprivileged_userfaultfd=1"
    return _refused(_armed(length, 0, userfaultfd.UFFD_FEATURE_SIGBUS, needs)[0])
