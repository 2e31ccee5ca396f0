# SPDX-License-Identifier: GPL-2.0-or-later
"""What people and machines read of a run; all of it made from the journal and run.json."""
