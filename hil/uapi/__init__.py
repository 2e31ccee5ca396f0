# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel interfaces as ctypes: numbers and structures, no policy."""
