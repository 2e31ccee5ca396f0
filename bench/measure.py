#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures how quick the virtual lab is, beside virtme-ng, v4l2-compliance and a C program."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import lab, page  # noqa: E402
from bench.neighbours import Neighbours  # noqa: E402
from bench.parts import PARTS, Job  # noqa: E402
from hil.errors import HilError  # noqa: E402
from hil.lab import board as boards  # noqa: E402
from hil.lab import cache  # noqa: E402

DOCUMENT = ROOT / "docs" / "performance.md"


def machine(kernel: str) -> dict[str, str]:
    """Where the figures come from."""
    ready = lab.get(boards.load("virtual-x86"), kernel)
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": f"{len(os.sched_getaffinity(0))} cores, {model}",
        "memory": f"{memory:.0f} GiB",
        "host": f"Linux {platform.release()}, Python {platform.python_version()}",
        "QEMU": ready.qemu,
        "accelerator": ready.boot.accelerator,
        "guest": f"Linux {ready.kernel.version} ({ready.kernel.release})",
    }


def rendered(result: dict[str, Any]) -> str:
    """The measured part of docs/performance.md."""
    parts = {name: [page.figure(f) for f in own] for name, own in result["parts"].items()}
    figures = {one.key: one for own in parts.values() for one in own}
    facts = [[name, text] for name, text in result["machine"].items()]
    text = [page.table(facts, ("machine", "value"))]
    for name, (title, _) in PARTS.items():
        if name in parts:
            about = f"`bench/measure.py --only {name}`"
            text.append(page.section(title, about, parts[name], figures))
    return "\n\n".join(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = "\n".join(f"  {name:8} {title}" for name, (title, _) in PARTS.items())
    top = argparse.ArgumentParser(
        description="Measures how quick the virtual lab is on this machine, beside virtme-ng,\n"
        "v4l2-compliance and a C program.  Run it on an idle machine; it takes some ten minutes.",
        epilog=f"parts:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--only", metavar="PART", action="append", choices=list(PARTS), default=[],
                     help="measure this part; may be repeated (default: all)")  # fmt: skip
    top.add_argument("--kernel", metavar="SPEC", default="debian:6.12",
                     help="the kernel to boot (default: debian:6.12)")  # fmt: skip
    top.add_argument("--runs", metavar="N", type=int, default=5,
                     help="how often each thing is measured (default: 5)")  # fmt: skip
    top.add_argument("--turns", metavar="N", type=int, default=100,
                     help="how often a cell runs in one guest (default: 100)")  # fmt: skip
    top.add_argument("--patience", metavar="S", type=float, default=900.0,
                     help="how long to wait, all in all, for other guests to end, and to repeat "
                     "what they disturbed (default: 900)")  # fmt: skip
    top.add_argument("--json", metavar="FILE", type=Path,
                     help="keep the figures; parts that FILE has already and that are not "
                     "measured now stay")  # fmt: skip
    top.add_argument("--write", action="store_true", help=f"write {DOCUMENT.name} anew")
    return top


def main() -> int:
    options = parser().parse_args()
    result: dict[str, Any] = {"machine": {}, "parts": {}}
    if options.json and options.json.exists():
        result = json.loads(options.json.read_text())
    chosen = options.only or list(PARTS)
    began = time.monotonic()

    def say(text: str) -> None:
        load = os.getloadavg()[0]
        print(f"{time.monotonic() - began:7.1f} s  load {load:.1f}  {text}", file=sys.stderr)

    try:
        result["machine"] = machine(options.kernel)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=cache.root()) as folder:
            neighbours = Neighbours(options.patience, say)
            neighbours.start()
            job = Job(options.kernel, options.runs, options.turns, Path(folder), say, neighbours)
            for name in chosen:
                say(PARTS[name][0])
                result["parts"][name] = [one.as_dict() for one in PARTS[name][1](job)]
                if options.json:
                    options.json.write_text(json.dumps(result, indent=1) + "\n")
    except (HilError, RuntimeError) as error:
        print(f"measure.py: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    text = rendered(result)
    print(text)
    if neighbours.spoilt:
        print(f"{neighbours.spoilt} measurements had another guest beside them", file=sys.stderr)
    if options.write:
        DOCUMENT.write_text(page.replaced(DOCUMENT.read_text(), text))
        print(f"wrote {DOCUMENT}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
