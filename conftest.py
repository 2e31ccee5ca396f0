# SPDX-License-Identifier: GPL-2.0-or-later
"""Options and fixtures of the suite; see fixtures/."""

pytest_plugins = ["fixtures.hw"]
