# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures what docs/performance.md tells."""
