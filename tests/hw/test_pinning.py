# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix: every pinner takes every memory class in each direction, under every condition."""

from __future__ import annotations

import pytest

from fixtures.verdict import conclude
from hil.runs.journal import Record


@pytest.mark.hw
def test_pinning(record: Record) -> None:
    """Accepted or refused as the rule for this kernel says, and everything is given back."""
    conclude(record)
