# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/conditions.md, made from the conditions: ``python -m hil.conditions.page [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from hil.conditions import FAMILIES
from hil.conditions.base import MAIN, Condition

FILE = Path(__file__).parents[2] / "docs" / "conditions.md"

_HEAD = f"""\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Made from hil/conditions/ by python -m hil.conditions.page: edit the classes there. -->

# What happens around a pin, and what must hold

A condition is the last part of a cell's id: `v4l2-vivid-video0/thp/capture/fork-child-writes`. It
is tried on these memory classes where nothing else is said: {", ".join(f"`{c}`" for c in MAIN)};
on the first queue of each driver and direction in a short run, on every other video queue too in a
long one (`-m hw`). `steady` meets every memory class on every queue.

In each cell that is accepted, whatever the condition: each page is pinned once while the driver has
it and no pin is left {{GRACE}} after the end of life; no page of the buffer changes its frame; the
bytes that go through the device are compared with those on the other side, and the bytes of the
buffer's first and last page that are not its own stay as they are. What differs by condition is
said below: "lost" means that the process has given its pages up, and that the device must go on
with the old ones.

What the memory is before the pin is mostly a memory class: `swapped-out`, `ksm`,
`anonymous-movable`, `userfaultfd-handler` and others, all of them under `steady`.

*Slow* conditions are left out of a short run. *Destructive* ones run on virtual boards, elsewhere
with `--destructive`; on a virtual board with snapshots each of their cells has a restored guest for
itself. `--seed N` gives the races other random numbers; the seed is in the evidence.
"""


def _section(kind: type[Condition]) -> list[str]:
    one = kind()
    marks = [word for word in ("slow", "destructive") if getattr(one, word)]
    classes = "" if one.classes == MAIN else ", ".join(f"`{name}`" for name in one.classes)
    if one.classes == ("*",):
        classes = "every class"
    about = [f"Since Linux {one.since}" if one.since != "5.10" else "All kernels"]
    about += [mark.capitalize() for mark in marks]
    if classes:
        about.append(f"Memory: {classes}")
    return [
        f"### {one.name}",
        "",
        f"{_sentence(one.summary)} {'. '.join(about)}.",
        "",
        f"- Must hold: {one.holds}.",
        f"- Because: {one.why}.",
        "",
    ]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def page(grace: float) -> str:
    """The whole page as Markdown; ``grace`` is how long pins may take to go, in seconds."""
    lines = [_HEAD.replace("{GRACE}", f"{grace:g} s")]
    for title, kinds in FAMILIES:
        shown = [kind for kind in kinds if not kind.only_on_demand]
        if shown:
            lines += [f"## {title}", ""]
        for kind in shown:
            lines += _section(kind)
    return "\n".join(lines).rstrip() + "\n"


def write(file: Path = FILE) -> Path:
    """Write the page; returns its path."""
    from hil.conditions.base import GRACE

    file.write_text(page(GRACE), encoding="utf-8")
    return file


if __name__ == "__main__":
    print(write(*(Path(name) for name in sys.argv[1:2])))
