# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine under test: its kernel, its switches, and how they are put back."""
