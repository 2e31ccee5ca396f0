# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil doctor`: what this machine can do."""

from __future__ import annotations

import argparse

from hil.commands.arguments import Commands


def add(commands: Commands) -> None:
    """The parser of `hil doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="what this machine can do, and the remedy for what it lacks",
        description="Checks QEMU, KVM, tools, disk, memory, devices and huge pages.",
    )
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from rich.console import Console

    from hil.lab import doctor

    return doctor.report(Console())
