# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes git trees to bisect in, of the distribution's own source, with a fault at a known place.

python -m tests.lab.histories FOLDER [--fault NAME] [--at N] [--commits N] [--kernel SPEC]

Most commits change nothing that is compiled to anything, some do not compile and are mended by the
next one, and one brings the fault.  Nothing of the kernel is in this file but the lines it edits.
"""

from __future__ import annotations

import argparse
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hil.lab import kernels
from hil.lab.drivers import sources
from hil.lab.progress import Line, Say

PATH = "drivers/media/common/videobuf2"
_FLAGS = "FOLL_FORCE | FOLL_WRITE | FOLL_LONGTERM"
_LONGTERM = {  # up to 6.1, and since 6.2 brought the direction
    _FLAGS: "FOLL_FORCE | FOLL_WRITE | {flag}",
    "unsigned int gup_flags = FOLL_LONGTERM;": "unsigned int gup_flags = {flag};",
}


class Fault(NamedTuple):
    """An edit of one file: the first anchor that is there once is replaced."""

    file: str
    edits: dict[str, str]
    subject: str


def _longterm(flag: str) -> dict[str, str]:
    return {old: new.replace("{flag}", flag) for old, new in _LONGTERM.items()}


FAULTS = {
    "longterm": Fault(
        "frame_vector.c", _longterm("0"), "media: videobuf2: pin user pages by the plain flags"
    ),
    "sometimes": Fault(  # three times in ten
        "frame_vector.c", _longterm("(get_random_u32() % 10 < 3 ? 0 : FOLL_LONGTERM)"),
        "media: videobuf2: pin user pages for as long as it takes",
    ),
    "leak": Fault(
        "frame_vector.c",
        {"unpin_user_pages(pages, vec->nr_frames);":
         "unpin_user_pages(pages, vec->nr_frames - (vec->nr_frames > 1));"},
        "media: videobuf2: tidy put_vaddr_frames",
    ),
}  # fmt: skip


class Made(NamedTuple):
    """A history: ``commits`` oldest first, the fault in ``faulty``."""

    repository: Path
    commits: list[str]
    faulty: str
    broken: frozenset[str]


def make(
    folder: Path, fault: Fault, *, kernel: str = "debian:6.1", commits: int = 100, at: int = 62,
    mended: int = 0, seed: int = 6, say: Say | None = None,
) -> Made:  # fmt: skip
    """A repository in ``folder`` whose commit number ``at`` brings the fault.

    ``mended``, when set, is the number of a later commit that takes it out again.
    """
    with Line() as line:
        source = sources.source(kernels.get(kernel, say=line), [PATH], say or line)
    files = {
        path.name: path.read_text()
        for path in sorted((source.folder / PATH).iterdir())
        if path.is_file()
    }
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    steps = list(_steps(files, fault, commits, at, mended, dice=random.Random(seed)))
    stream = "".join(_import(number, *step) for number, step in enumerate(steps))
    subprocess.run(["git", "-C", folder, "fast-import", "--quiet", "--force"],
                   input=stream.encode(), check=True)  # fmt: skip
    subprocess.run(["git", "-C", folder, "checkout", "--quiet", "main"], check=True)
    listing = subprocess.run(["git", "-C", folder, "rev-list", "--reverse", "main"],
                             capture_output=True, text=True, check=True)  # fmt: skip
    ids = listing.stdout.split()
    broken = frozenset(ids[n] for n, (subject, _) in enumerate(steps) if "half done" in subject)
    return Made(folder, ids, ids[at], broken)


def _steps(
    files: dict[str, str], fault: Fault, commits: int, at: int, mended: int, *, dice: random.Random
) -> Iterator[tuple[str, dict[str, str]]]:
    """Subject and changed files of each commit; the first one brings all files."""
    yield "media: videobuf2: as the distribution has it", dict(files)
    sound = files[fault.file]
    near = {at - 1, at, at + 1, mended - 1, mended, mended + 1}
    mends = ""
    names = [name for name in files if name.endswith(".c")]
    for number in range(1, commits + 1):
        if number == at:
            name, text = fault.file, _faulty(files[fault.file], fault)
            subject = fault.subject
        elif mended and number == mended:
            name, text, subject = fault.file, sound, f'Revert "{fault.subject}"'
        elif mends:
            name, text = mends, files[mends].replace(_HALF, "")
            subject, mends = f"media: {name}: the other half", ""
        elif number not in near and number + 1 not in near and dice.random() < 0.08:
            name = mends = dice.choice([name for name in names if name not in _NOT_BUILT])
            text = files[name] + _HALF
            subject = f"media: {name}: rework, half done"
        else:
            name = dice.choice(names)
            text, what = _harmless(files[name], number, dice)
            subject = f"media: {name}: {what}"
        files[name] = text
        yield subject, {name: text}


# Not among the modules that vivid needs, so that nobody would see them broken.
_NOT_BUILT = ("videobuf2-dvb.c", "videobuf2-dma-sg.c")
_HALF = "\nstatic int hil_half(void) { return hil_the_other_half(0); }\n"


def _harmless(text: str, number: int, dice: random.Random) -> tuple[str, str]:
    kinds = (
        (f"\n/* Note {number}: see the documentation of the queue. */\n", "say more in a comment"),
        (f"\nstatic int __maybe_unused hil_note_{number}(int i)\n{{\n\treturn i + {number};\n}}\n",
         "a helper for later"),
        (f"\n#define HIL_LIMIT_{number} {number}\n", "name a limit"),
    )  # fmt: skip
    more, what = dice.choice(kinds)
    return text + more, what


def _faulty(text: str, fault: Fault) -> str:
    for old, new in fault.edits.items():
        if text.count(old) == 1:
            head, body = "", text.replace(old, new)
            if "get_random" in new:
                head = "#include <linux/random.h>\n"
            return head + body
    raise LookupError(f"{fault.file} has none of {list(fault.edits)} just once")


def _import(number: int, subject: str, changed: dict[str, str]) -> str:
    """One commit in the language of git-fast-import(1)."""
    when = 1_700_000_000 + 3600 * number
    parts = [
        "commit refs/heads/main\n",
        f"committer A Developer <dev@example.org> {when} +0000\n",
        f"data {len(subject.encode())}\n{subject}\n",
    ]
    for name, text in changed.items():
        data = text.encode()
        parts.append(f"M 100644 inline {PATH}/{name}\ndata {len(data)}\n{text}\n")
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fault", choices=FAULTS, default="longterm")
    parser.add_argument("--kernel", default="debian:6.1")
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--at", type=int, default=62)
    parser.add_argument("--mended", type=int, default=0)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    made = make(
        options.folder, FAULTS[options.fault], kernel=options.kernel, commits=options.commits,
        at=options.at, mended=options.mended, seed=options.seed,
    )  # fmt: skip
    print(f"{len(made.commits)} commits, {len(made.broken)} do not build")
    print(f"good {made.commits[0]}\nbad {made.commits[-1]}\nfault {made.faulty}")


if __name__ == "__main__":
    main()
