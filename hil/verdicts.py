# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cell can come to, and what each means to the reader."""

from __future__ import annotations

import enum


class Verdict(enum.StrEnum):
    """Each value asks its reader to do something else; see MEANING."""

    OK = "ok"
    WRONGLY_ACCEPTED = "wrongly-accepted"
    WRONGLY_REFUSED = "wrongly-refused"
    WRONG_ERRNO = "wrong-errno"
    LEAK = "leak"
    MISCOUNTED = "miscounted"
    MOVED = "moved"
    STAYED = "stayed"
    CORRUPT = "corrupt"
    STALE = "stale"
    NOT_HELD = "not-held"
    HANG = "hang"
    CRASH = "crash"
    KERNEL_WARNING = "kernel-warning"
    NO_RULE = "no-rule"
    NOT_APPLICABLE = "not-applicable"
    HARNESS_ERROR = "harness-error"

    @property
    def bad(self) -> bool:
        """True where the driver or the kernel is at fault, or nothing vouches for it."""
        return self not in (Verdict.OK, Verdict.NOT_APPLICABLE)


MEANING: dict[Verdict, str] = {
    Verdict.OK: "what the rule says happened, and everything was given back",
    Verdict.WRONGLY_ACCEPTED: "pinned memory that it must refuse: look at the driver's checks",
    Verdict.WRONGLY_REFUSED: "refused memory that it must take: look for the refusing check",
    Verdict.WRONG_ERRNO: "refused rightly, but user space is told a wrong reason",
    Verdict.LEAK: "pins are still held after the end of life: look at the release path",
    Verdict.MISCOUNTED: "while held, not every page is pinned exactly once: get for pin, "
    "an early unpin or a wrong length",
    Verdict.MOVED: "a pinned page changed its frame: the device has the old one",
    Verdict.STAYED: "pinned for long in ZONE_MOVABLE or CMA: FOLL_LONGTERM is missing",
    Verdict.CORRUPT: "the bytes that arrived are not the bytes that were sent",
    Verdict.STALE: "the device has other pages than the process: a mapping outlived its memory",
    Verdict.NOT_HELD: "the kernel allowed what a pin must prevent: the reason names the call",
    Verdict.HANG: "a call did not come back: see the kernel stack in the evidence",
    Verdict.CRASH: "the machine went down at this cell: see the console",
    Verdict.KERNEL_WARNING: "the kernel warned or became tainted: see the log in the evidence",
    Verdict.NO_RULE: "nothing says what must happen: add a row to the driver's rule table",
    Verdict.NOT_APPLICABLE: "this kernel or machine cannot make it: the reason says what would",
    Verdict.HARNESS_ERROR: "the suite or the machine was not ready: nothing is said of the driver",
}
