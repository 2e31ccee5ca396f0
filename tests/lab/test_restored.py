# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine under test is somebody's: it is put back although the suite was killed."""

from __future__ import annotations

import signal
from pathlib import Path

from hil.lab.runner import DEFAULT_KERNEL
from tests.lab.inside import run_inside

HERE = Path(__file__).parent


def test_a_suite_that_is_killed_in_a_cell_leaves_the_machine_as_it_was(tmp_path: Path) -> None:
    found = run_inside(HERE / "killed_suite.py", DEFAULT_KERNEL, tmp_path)
    assert (found["killed_in"], found["status"]) == ("swapoff", -signal.SIGKILL)
    assert found["cells"] > 1, "it was to be in the middle"
    assert found["differs"] == {}
