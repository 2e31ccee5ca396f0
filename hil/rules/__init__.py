# SPDX-License-Identifier: GPL-2.0-or-later
"""What must happen, as cited tables: one a driver family, and the known defects of real kernels."""
