# SPDX-License-Identifier: GPL-2.0-or-later
"""Foreign text made fit to be shown: kernel logs and reasons hold bytes of any kind."""

from __future__ import annotations

import os
import re
import shlex

from rich.console import Console

_SIGNS = "✓⊘·─"
# C0 and C1 control characters but tab and newline: escape sequences could redraw the terminal, and
# XML 1.0 has no way to write them.  The others break lines or are not in XML.
_CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if code not in (0x09, 0x0A)
} | {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, 0xFFFE, 0xFFFF)}


def clean(text: object) -> str:
    """`text` with control characters and lone surrogates written out as escapes."""
    shown = str(text).translate(_CONTROLS)
    if not shown.isascii():
        shown = shown.encode("utf-8", "backslashreplace").decode("utf-8")
    return shown


def command_line(command: object) -> str:
    """run.json's command, a string or a list of words, as one would type it."""
    return shlex.join(map(str, command)) if isinstance(command, list) else str(command)


_CHANGING = re.compile(r"\[ *\d+\.\d+\]|\d+|VIDIOC_[A-Z]+_BUF|VIDIOC_QBUF")


def gist(reason: object) -> str:
    """A reason without what differs from cell to cell: numbers, times, which of the calls.

    Reasons with the same gist are told once, in the words of the first.
    """
    return _CHANGING.sub("#", str(reason or ""))


def signs_fit(console: Console) -> bool:
    """Can the console show the matrix's signs?  The kernel's own console has no glyphs for them."""
    if os.environ.get("TERM") == "linux" and console.is_terminal:
        return False
    try:
        _SIGNS.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def fit(console: Console, text: object) -> str:
    """`clean`, and with what the console's encoding cannot write as escapes."""
    shown = clean(text)
    if shown.isascii():
        return shown
    return shown.encode(console.encoding, "backslashreplace").decode(console.encoding)
