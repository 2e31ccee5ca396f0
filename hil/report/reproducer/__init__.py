# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell as a C program that stands alone: what it was, made, pinned and looked at again."""

from hil.report.reproducer.program import NoReproducerError, program

__all__ = ["NoReproducerError", "program"]
