# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel shows: pin counters, page frames and zones, kernel log and taint, mappings."""
