# SPDX-License-Identifier: GPL-2.0-or-later
"""The run folder, its journal, and what a run came to."""
