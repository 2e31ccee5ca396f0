# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of `hil`, one a file: each adds its parser, and runs."""
