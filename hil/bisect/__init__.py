# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the commit, or the release, with which a cell went bad or was mended."""
