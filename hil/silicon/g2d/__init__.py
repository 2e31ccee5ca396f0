# SPDX-License-Identifier: GPL-2.0-or-later
"""The Samsung G2D of the Exynos and S5PV210 chips."""
