# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests of the virtual lab share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.driving import Hil

HERE = Path(__file__).parent
TIMEOUT = 200  # seconds for one test, the boot for a snapshot included


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture
def started() -> Iterator[Callable[..., Hil]]:
    """Starts `hil`; ends it, if need be, after the test."""
    all_: list[Hil] = []

    def start(*arguments: object, env: Mapping[str, str] | None = None) -> Hil:
        all_.append(Hil(*arguments, env=env))
        return all_[-1]

    yield start
    for hil in all_:
        if hil.process.poll() is None:
            hil.interrupt()
