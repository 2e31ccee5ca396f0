# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml, made from the journal: one test case a cell, for continuous integration.

A cell that is known as bad is skipped with type ``pytest.xfail``, as pytest writes an xfail.  An
unexpected pass is a failure, as a strict xfail is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from junitparser import Error, Failure, JUnitXml, Properties, Property, Skipped, TestCase, TestSuite

from hil.errors import HilError
from hil.report.grid import whole
from hil.report.text import clean, command_line
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, last_of_each, outcome_of

_CASE_PROPERTIES = ("kernel", "driver", "memory", "direction", "condition", "verdict", "rule")
_RUN_PROPERTIES = ("run", "board", "kernel", "kernel_spec", "uname", "command", "status")


def write(folder: RunFolder) -> None:
    """Write the run's junit.xml."""
    write_junit(folder.junit, folder.records(), folder.read_meta())


def write_junit(
    path: Path, records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any] | None = None
) -> None:
    """Write the file in one step; `meta` is run.json.  HilError when it cannot be written."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        build(records, meta or {}).write(str(scratch), pretty=False)
        scratch.replace(path)
    except OSError as error:
        raise HilError(
            f"{path}: {error.strerror or error}", "Make room or name another."
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def build(records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> JUnitXml:
    """The document: one suite, properties of the run on it, properties of each cell on its case."""
    suite = TestSuite("hil")
    properties = {name: command_line(meta[name]) for name in _RUN_PROPERTIES if meta.get(name)}
    properties |= {f"version.{name}": text for name, text in (meta.get("versions") or {}).items()}
    properties |= {f"config.{name}": text for name, text in (meta.get("config") or {}).items()}
    _append(suite, _properties(properties))
    if meta.get("started"):
        suite.timestamp = clean(meta["started"])
    if meta.get("board"):
        suite.hostname = clean(meta["board"])
    suite.add_testcases([_case(whole(record)) for record in last_of_each(records)])
    # junitparser's annotations stop short of some calls: here, in _properties and in _append.
    document = JUnitXml("hil")
    document.add_testsuite(suite)
    update: Callable[[], None] = document.update_statistics
    update()
    return document


def _case(record: Mapping[str, Any]) -> TestCase:
    name = f"{record['memory']}/{record['direction']}/{record['condition']}"
    case = TestCase(clean(name), clean(record["pinner"]), float(record.get("seconds") or 0.0))
    outcome = outcome_of(record)
    known = record.get("known") or {}
    properties = {key: record[key] for key in _CASE_PROPERTIES if record.get(key)}
    properties["outcome"] = str(outcome)
    if known:
        properties |= {"known": known.get("id"), "reference": known.get("reference")}
    _append(case, _properties({key: value for key, value in properties.items() if value}))
    verdict = clean(record.get("verdict"))
    reason = clean(record.get("reason") or verdict)
    if outcome is Outcome.SKIP:
        _append(case, Skipped(reason, "pytest.skip"))
    elif outcome is Outcome.KNOWN:
        text = f"{verdict}: {reason} [{known.get('id')}: {known.get('reference')}]"
        _append(case, Skipped(clean(text), "pytest.xfail"))
    elif outcome is Outcome.ERROR:
        _append(case, _with_text(Error(reason, verdict), record))
    elif outcome is Outcome.UNEXPECTED_PASS:
        text = f"[XPASS(strict)] known as {known.get('id')}: {known.get('reference')}"
        _append(case, _with_text(Failure(clean(text), str(outcome)), record))
    elif outcome is Outcome.FAIL:
        _append(case, _with_text(Failure(f"{verdict}: {reason}", verdict), record))
    return case


def _with_text(result: Failure | Error, record: Mapping[str, Any]) -> Failure | Error:
    """Put what a reader of the CI page needs first into the result's text."""
    evidence = record.get("evidence") or {}
    child = evidence.get("child") or {}
    lines = [f"hil show RUN {record['cell']}"]
    if "errno" in evidence:
        lines.append(f"{evidence.get('call')}: {evidence['errno'] or 'accepted'}")
    if record.get("expected"):
        lines.append(f"expected: {record['expected']}")
    for name in ("pins", "setup", "data"):
        if evidence.get(name):
            lines.append(f"{name}: {evidence[name]}")
    for part in (evidence.get("log"), child.get("stack")):
        if part:
            lines.extend([part] if isinstance(part, str) else map(str, part))
    result.text = clean("\n".join(lines))
    return result


def _properties(values: Mapping[str, object]) -> Properties:
    make: Callable[[], Properties] = Properties
    properties = make()
    for name, value in values.items():
        _append(properties, Property(clean(name), clean(value)))
    return properties


def _append(parent: Any, child: Any) -> None:
    parent.append(child)
