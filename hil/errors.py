# SPDX-License-Identifier: GPL-2.0-or-later
"""The errors that a person can cause or mend."""


class HilError(Exception):
    """Something that the person at the keyboard can mend: bad input, a missing part, a full disk.

    ``message`` says what was found and what was expected; ``hint`` says what to do next.  The
    command line prints both without a traceback and exits with ``status``.
    """

    status = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class NotCompletedError(HilError):
    """A run that was rightly asked for and could not be completed: the guest does not come up."""

    status = 3


class NotApplicableError(Exception):
    """This machine or kernel cannot make what a cell needs.

    ``reason`` says what is missing and, where anything helps, how to enable it.  Raised only while
    a cell is being set up: the errno of the call under test never ends up here.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
