# SPDX-License-Identifier: GPL-2.0-or-later
"""Seeded faults: drivers with one mistake each, built at run time, that the suite has to catch."""
