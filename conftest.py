# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps `pytest -m hw` to the suite itself; its options and fixtures are the plugin fixtures.hw."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.hw import wants_hw

_HARNESS = [Path(__file__).parent / "tests" / name for name in ("unit", "lab")]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A machine under test need not have what the tests of the harness import."""
    return True if wants_hw(config) and collection_path in _HARNESS else None
