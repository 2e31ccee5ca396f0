# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts that pages are made of: templates, style sheets, scripts, and what fills them in."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from hil.report.text import clean


def asset(name: str) -> str:
    """A file of hil/report as text."""
    return resources.files("hil.report").joinpath(name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Templates that escape what they are given, and show control characters as escapes."""
    made = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.finalize = _finalize
    return made


def _finalize(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
