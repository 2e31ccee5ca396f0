# SPDX-License-Identifier: GPL-2.0-or-later
"""The rule for a memory class, a direction and a kernel, looked up in the driver family's table.

A table is a TOML file beside this module; docs/rules/README.md explains its keys.  Exactly one row
may match; ``check`` walks all classes over a list of releases and finds overlaps and gaps.

A table may rest on another one, its ``base``: what the drivers have in common is said once.  Its
own rows go before the base's.
"""

from __future__ import annotations

import errno as errno_module
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hil.cells import Direction
from hil.errors import HilError
from hil.rules import toml
from hil.system.release import Release, Span, parse

FOLDER = Path(__file__).parent

FIRST_PAGE = "first page"
LATER_PAGE = "later page"
ANY_PAGE = "any page"
ADDRESS = "address"

_TOP_KEYS = ("family", "first", "last", "rule")
_ROW_KEYS = ("id", "memory", "since", "expect", "because", "source")
_ROW_OPTIONAL = ("direction", "until", "errno", "at", "when", "pinned", "commit", "instead-of")
_TOP_OPTIONAL = ("funnel", "by_folio", "base", "base-direction", "base-errno")
_FUNNEL_KEYS = ("id", "at", "since", "errno", "because", "source")
_FUNNEL_OPTIONAL = ("until", "commit")


class Rule(NamedTuple):
    """What must happen: ``accept``, or a refusal with one of ``errnos`` (names, as "EFAULT")."""

    id: str
    accept: bool
    errnos: tuple[str, ...]
    pinned: bool
    """An accepted buffer's pages are pinned, each once; False for page frames without a pin."""
    must_leave_movable: bool
    """No page may stay in ZONE_MOVABLE or CMA while the driver holds it."""
    because: str
    source: str
    commit: str
    span: Span
    by_folio: bool = False
    """Neighbouring pages of a folio may be held by one pin together."""

    @property
    def expected(self) -> str:
        return "accept" if self.accept else "refuse with " + " or ".join(self.errnos)


class Row(NamedTuple):
    """One row as written."""

    id: str
    memory: tuple[str, ...]
    directions: tuple[str, ...]
    span: Span
    expect: str
    errnos: tuple[str, ...]
    at: str
    when: Mapping[str, bool]
    pinned: bool
    because: str
    source: str
    commit: str
    instead_of: str
    """When set: the row holds only where the base says this, "accept" or "refuse"."""

    def names(self, memory: str) -> bool:
        return any(toml.matches(pattern, memory) for pattern in self.memory)

    def fits(self, facts: Mapping[str, object]) -> bool:
        return all(bool(facts.get(key)) == value for key, value in self.when.items())


class Funnel(NamedTuple):
    """What becomes of a refusal's errno on its way to user space, by the page that is refused."""

    id: str
    at: str
    span: Span
    errnos: tuple[str, ...]
    because: str
    source: str
    commit: str


class Table(NamedTuple):
    family: str
    first: Release
    last: Release
    funnels: tuple[Funnel, ...]
    rows: tuple[Row, ...]
    by_folio: Span | None = None
    """The kernels on which neighbouring pages of a folio may be held by one pin together."""
    base: str = ""
    """The family whose table says what no row here does."""
    base_direction: str = ""
    """Which direction of the base holds for both; empty is each its own."""
    base_errnos: tuple[str, ...] = ()
    """What every errno of a refusal by the base becomes; empty is itself."""

    def covers(self, release: Release) -> bool:
        return self.first[:2] <= release[:2] <= self.last[:2]

    def errnos(self, row: Row, release: Release) -> tuple[str, ...]:
        """The errnos that user space may see for this row's refusal."""
        if row.at != ANY_PAGE:
            return self._funnelled(row, row.at, release)
        first = self._funnelled(row, FIRST_PAGE, release)
        later = self._funnelled(row, LATER_PAGE, release)
        return tuple(dict.fromkeys(first + later))

    def _funnelled(self, row: Row, at: str, release: Release) -> tuple[str, ...]:
        for funnel in self.funnels:
            if funnel.at == at and funnel.span.holds(release):
                return funnel.errnos
        return row.errnos

    def seen(self, base: Table, row: Row, release: Release) -> tuple[str, ...]:
        """The errnos that user space may see for a refusal by a row of the base."""
        if self.base_errnos:
            return self.base_errnos
        return (self if self.funnels else base).errnos(row, release)

    def rule(self, row: Row, release: Release) -> Rule | None:
        """The rule that a row makes for one release; None where it says that there is no such."""
        if row.expect == "absent":
            return None
        accept = row.expect == "accept"
        return Rule(
            row.id,
            accept,
            () if accept else self.errnos(row, release),
            accept and row.pinned,
            True,
            row.because,
            row.source,
            row.commit,
            row.span,
            self.by_folio is not None and self.by_folio.holds(release),
        )


def _errnos(path: Path, where: str, row: toml.Row, key: str = "errno") -> tuple[str, ...]:
    names = toml.strings(path, where, row, key)
    for name in names:
        if not hasattr(errno_module, name):
            raise toml.fail(path, where, f"{name!r} in {key!r} is no errno's name")
    return names


def _row(path: Path, number: int, row: Any) -> Row:
    where = f"row {number}" if not isinstance(row.get("id"), str) else f"row {row['id']!r}"
    toml.check_keys(path, where, row, _ROW_KEYS, _ROW_OPTIONAL)
    memory = toml.strings(path, where, row, "memory")
    if not memory:
        raise toml.fail(path, where, "'memory' names no class")
    directions = toml.strings(path, where, row, "direction")
    for name in directions:
        if name not in list(Direction):
            raise toml.fail(path, where, f"direction {name!r}, expected capture or output")
    expect = toml.choice(path, where, row, "expect", ("accept", "refuse", "absent"))
    at = toml.choice(path, where, row, "at", (FIRST_PAGE, LATER_PAGE, ANY_PAGE, ADDRESS))
    names = _errnos(path, where, row)
    if (expect == "refuse" and at != LATER_PAGE) != bool(names):
        raise toml.fail(
            path,
            where,
            "'errno' goes with expect = \"refuse\", and with nothing else",
            f"a refusal at the {LATER_PAGE} gets its errno from the [[funnel]] of that name",
        )
    when = row.get("when", {})
    if not isinstance(when, dict) or not all(isinstance(value, bool) for value in when.values()):
        raise toml.fail(path, where, f"'when' is {when!r}, expected facts that are true or false")
    return Row(
        toml.text(path, where, row, "id"),
        memory,
        directions or tuple(Direction),
        toml.span(path, where, row),
        expect,
        names,
        at,
        when,
        bool(row.get("pinned", True)),
        toml.text(path, where, row, "because"),
        toml.text(path, where, row, "source"),
        toml.text(path, where, row, "commit"),
        toml.choice(path, where, row, "instead-of", ("", "accept", "refuse")),
    )


def _funnel(path: Path, row: Any) -> Funnel:
    where = f"funnel {row.get('id')!r}"
    toml.check_keys(path, where, row, _FUNNEL_KEYS, _FUNNEL_OPTIONAL)
    return Funnel(
        toml.text(path, where, row, "id"),
        toml.choice(path, where, row, "at", (FIRST_PAGE, LATER_PAGE)),
        toml.span(path, where, row),
        _errnos(path, where, row),
        toml.text(path, where, row, "because"),
        toml.text(path, where, row, "source"),
        toml.text(path, where, row, "commit"),
    )


def read(path: Path) -> Table:
    """Read and check a table; HilError names the row and key at fault."""
    content = toml.load(path)
    toml.check_keys(path, "top", content, _TOP_KEYS, _TOP_OPTIONAL)
    try:
        first, last = parse(content["first"]), parse(content["last"])
    except (ValueError, AttributeError) as error:
        raise toml.fail(path, "top", f"bad kernel range: {error}") from error
    rows = tuple(_row(path, number, row) for number, row in enumerate(content["rule"], 1))
    funnels = tuple(_funnel(path, row) for row in content.get("funnel", []))
    ids = [row.id for row in rows] + [funnel.id for funnel in funnels]
    for place, name in enumerate(ids):
        if name in ids[:place]:
            raise toml.fail(path, f"row {name!r}", "this id is there twice")
    family = toml.text(path, "top", content, "family")
    shared = content.get("by_folio")
    by_folio = None if shared is None else toml.span(path, "by_folio", shared)
    base = toml.text(path, "top", content, "base")
    if base and not (path.parent / f"{base}.toml").exists():
        raise toml.fail(path, "top", f"there is no table {base!r} to rest on")
    needing = next((row for row in rows if row.instead_of), None)
    if needing is not None and not base:
        raise toml.fail(path, f"row {needing.id!r}", "'instead-of' needs a 'base'")
    return Table(
        family, first, last, funnels, rows, by_folio, base,
        toml.choice(path, "top", content, "base-direction", ("", *Direction)),
        _errnos(path, "top", content, "base-errno"),
    )  # fmt: skip


_tables: dict[str, Table | None] = {}
_rows: dict[tuple[str, Release], list[Row]] = {}
_named: dict[tuple[str, Release, str], list[Row]] = {}


def table(family: str) -> Table | None:
    """The family's table, read once; None when there is none."""
    if family not in _tables:
        path = FOLDER / f"{family}.toml"
        _tables[family] = read(path) if path.exists() else None
    return _tables[family]


def rows_for(found: Table, release: Release) -> list[Row]:
    """The rows that hold for a release; chosen once for each release."""
    key = (found.family, release)
    if key not in _rows:
        _rows[key] = [row for row in found.rows if row.span.holds(release)]
    return _rows[key]


def _rows_of(found: Table, memory: str, release: Release) -> list[Row]:
    """The rows that name a memory class; chosen once for each class and release."""
    key = (found.family, release, memory)
    if key not in _named:
        _named[key] = [row for row in rows_for(found, release) if row.names(memory)]
    return _named[key]


def _overlap(memory: str, direction: str, release: Release, rows: list[Row]) -> HilError:
    ids = ", ".join(repr(row.id) for row in rows)
    return HilError(
        f"rules {ids} overlap: each matches {memory}/{direction} on {release}",
        "exactly one row may match: narrow the kernel range or the memory classes of one",
    )


def rule_for(
    family: str,
    memory: str,
    direction: str,
    release: Release,
    facts: Mapping[str, object] | None = None,
) -> Rule | None:
    """The rule for one cell; None when nothing says what must happen (see ``why_none``).

    ``facts`` are what the buffer was found to be (``when`` in the table); one that is not told is
    taken as false.  HilError when two rows match.
    """
    found = table(family)
    hit = found and _row_for(found, memory, direction, release, facts or {})
    if not found or not hit:
        return None
    owner, row = hit
    rule = owner.rule(row, release)
    if rule is not None and not rule.accept and owner is not found:
        return rule._replace(errnos=found.seen(owner, row, release))
    return rule


def _row_for(
    found: Table, memory: str, direction: str, release: Release, facts: Mapping[str, object]
) -> tuple[Table, Row] | None:
    """The one row that holds, and whose it is: the table's own or its base's."""
    if not found.covers(release):
        return None
    base = table(found.base) if found.base else None
    under = base and _row_for(base, memory, found.base_direction or direction, release, facts)
    rows = [
        row
        for row in _rows_of(found, memory, release)
        if direction in row.directions and row.fits(facts)
        and (not row.instead_of or (under is not None and under[1].expect == row.instead_of))
    ]  # fmt: skip
    if len(rows) > 1:
        raise _overlap(memory, direction, release, rows)
    return (found, rows[0]) if rows else under


def as_told(family: str, answers: tuple[str, ...]) -> tuple[str, ...]:
    """What a family makes of the errnos that mm gives (base-errno); other words stay."""
    found = table(family)
    if found is None or not found.base_errnos:
        return answers
    words = tuple(word for word in answers if not hasattr(errno_module, word))
    return words if len(words) == len(answers) else words + found.base_errnos


def why_none(family: str, memory: str, direction: str, release: Release) -> str:
    """Why ``rule_for`` has no answer, for a person."""
    found = table(family)
    if found is None:
        return f"there is no rule table for the driver family {family!r}"
    if not found.covers(release):
        span = f"{found.first.series} to {found.last.series}"
        return f"the {family} table goes from kernel {span}, this is {release}"
    for row in _rows_of(found, memory, release):
        if row.expect == "absent":
            return f"rule {row.id!r} says that {release} has no such memory: {row.because}"
    if found.base:
        return why_none(found.base, memory, direction, release)
    return f"the {family} table has no row for {memory}/{direction} on {release}"


def _assignments(keys: list[str]) -> Iterator[dict[str, bool]]:
    for bits in range(1 << len(keys)):
        yield {key: bool(bits >> place & 1) for place, key in enumerate(keys)}


def check(found: Table, names: Iterable[str], releases: Iterable[Release]) -> list[str]:
    """Every overlap and gap over all classes, directions, releases and facts, in words."""
    problems: list[str] = []
    names = list(names)
    base = table(found.base) if found.base else None
    for release in releases:
        if not found.covers(release):
            continue
        rows = [row for row in found.rows if row.span.holds(release)]
        under = [row for row in base.rows if row.span.holds(release)] if base else []
        for memory in names:
            named = [row for row in rows if row.names(memory)]
            below = [row for row in under if row.names(memory)]
            keys = sorted({key for row in (*named, *below) for key in row.when})
            for direction in Direction:
                for facts in _assignments(keys):
                    here = [r for r in named if direction in r.directions and r.fits(facts)]
                    told = [
                        r for r in below
                        if (found.base_direction or direction) in r.directions and r.fits(facts)
                    ]  # fmt: skip
                    hits = [r for r in here if not r.instead_of]
                    hits += [
                        r for r in here
                        if r.instead_of and told and told[0].expect == r.instead_of
                    ]  # fmt: skip
                    if len(hits) > 1:
                        problems.append(_overlap(memory, direction, release, hits).message)
                    elif not hits and not told:
                        why = f" when {facts}" if facts else ""
                        problems.append(f"no rule for {memory}/{direction} on {release}{why}")
    return problems
