# SPDX-License-Identifier: GPL-2.0-or-later
"""hil/rules: the tables, their errors, and the page made from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hil.cells import Cell, Direction
from hil.errors import HilError
from hil.memory.base import all_classes
from hil.rules import known as known_module
from hil.rules import page, toml
from hil.rules.known import all_known, known_for
from hil.rules.table import Row, Table, check, read, rule_for, table, why_none
from hil.rules.toml import matches
from hil.system.release import Release, parse
from hil.verdicts import Verdict

FAMILY = "vb2-vmalloc"


def words(text: str) -> list[str]:
    return text.split()


FILE_SYSTEMS = ("ext4", "xfs", "btrfs")
BACKED = ("private-untouched", "private-cowed", "shared", "private-readonly", "shared-readonly")
BACKED_LARGE = ("private-untouched-large-folio", "shared-large-folio", "shared-pmd")

# The classes of the issue, whether or not a maker for them is there yet.
CLASSES = [
    *words("anonymous anonymous-untouched anonymous-zero-page anonymous-large-folio"),
    *words("anonymous-unaligned thp thp-part thp-two hugetlb-2m-private hugetlb-2m-shared"),
    *words("hugetlb-2m-memfd hugetlb-2m-untouched hugetlb-2m-readonly hugetlb-1g-private"),
    *words("hugetlb-1g-shared hugetlb-1g-memfd shared-anonymous shared-anonymous-thp memfd"),
    *words("memfd-large-folio memfd-thp tmpfs tmpfs-thp sysv memfd-future-write-seal"),
    *words("memfd-readonly-shared memfd-write-sealed-shared memfd-sealed-private memfd-secret"),
    *(f"{fs}-{kind}" for fs in FILE_SYSTEMS for kind in (*BACKED, *BACKED_LARGE)),
    *(
        f"fsdax-{fs}-{kind}"
        for fs in ("ext4", "xfs")
        for kind in ("shared", "private", "private-cowed", "second-vma", "shared-pmd")
    ),
    *words("device-dax pci-bar v4l2-mmap-buffer udmabuf drm-dumb-buffer"),
    *words("readonly-private readonly-shared prot-none prot-none-shared prot-none-middle"),
    *words("thp-prot-none too-short"),
    *words("unmapped-first unmapped-middle unmapped-last memfd-beyond-eof ext4-beyond-eof"),
    *words("ext4-private-beyond-eof userfaultfd-handler userfaultfd-user-mode-only"),
    *words("userfaultfd-sigbus anonymous-movable memfd-movable thp-movable"),
    *words("hugetlb-2m-movable ksm swapped-out cow-shared-with-child over-memlock guard-pages"),
    *words("below-stack kernel-address address-wrap null-pointer zero-length"),
    *words("remapped-same-address resized-same-address anonymous-apart two-mappings"),
    *words("hugetlb-64k-private hugetlb-32m-private thp-cma"),
]

POINTS = [
    *words("5.10.157 5.10.158 5.10.262 5.15.81 5.15.82 5.15.199 6.0.11 6.0.12 6.1-rc7 6.1-rc8"),
    *words("6.1.1 6.1.2 6.1.36 6.1.37 6.1.192 6.3.10 6.3.11 6.4.1 6.4.9 6.4.10 6.6.140"),
    *words("6.12.13 6.12.35 6.12.117 6.16.12 6.17.13 6.18.44 6.19.14 7.0.9 7.1.9 7.2.13 7.3.4"),
]


@pytest.fixture(name="vmalloc")
def _vmalloc() -> Table:
    found = table(FAMILY)
    assert found is not None
    return found


@pytest.fixture(name="each", params=page.FAMILIES)
def _each(request: pytest.FixtureRequest) -> Table:
    found = table(request.param)
    assert found is not None
    return found


def releases(found: Table) -> list[Release]:
    first = [Release(major, minor) for major, minor in page.series(found)]
    return sorted({*first, *map(parse, POINTS)})


def outcome(memory: str, direction: str, release: str, **facts: bool) -> str:
    rule = rule_for(FAMILY, memory, direction, parse(release), facts)
    if rule is None:
        return "none"
    return "accept" if rule.accept else " ".join(rule.errnos)


def test_exactly_one_row_for_each_class_direction_and_kernel(each: Table) -> None:
    names = sorted({*CLASSES, *all_classes()})
    assert check(each, names, releases(each)) == []


def test_every_row_names_a_class_of_the_issue(each: Table) -> None:
    names = {*CLASSES, *all_classes()}
    idle = [
        (row.id, pattern)
        for row in each.rows
        for pattern in row.memory
        if not any(matches(pattern, name) for name in names)
    ]
    assert idle == []


def test_every_row_says_where_it_comes_from(each: Table) -> None:
    named = re.compile(r"\.[ch]\b|\b[a-z]+_\w+")  # a file or a function
    assert [row.id for row in each.rows if not named.search(row.source)] == []
    assert all(row.because for row in each.rows)


# Each stable point: what holds just before it, and from it on.
@pytest.mark.parametrize(
    ("where", "before", "after"),
    [
        ("pci-bar/capture", "5.10.157: accept", "5.10.158: EFAULT"),
        ("pci-bar/capture", "5.15.81: accept", "5.15.82: EFAULT"),
        ("pci-bar/output", "6.0.11: accept", "6.0.12: EFAULT"),
        ("pci-bar/capture", "6.1-rc7: accept", "6.1-rc8: EFAULT"),
        ("fsdax-ext4-shared/capture", "5.15.81: EINVAL", "5.15.82: EOPNOTSUPP"),
        ("prot-none-shared/capture", "5.15.81: EINVAL", "5.15.82: EFAULT"),
        ("prot-none-shared/capture", "5.16.20: EINVAL", "5.17: EFAULT"),
        ("hugetlb-2m-readonly/capture", "6.0.19: accept", "6.1: EFAULT"),
        ("hugetlb-2m-readonly/output", "6.1.192: EFAULT", "6.2: accept"),
        ("below-stack/capture", "5.11.22: EFAULT", "5.12: accept"),
        ("below-stack/capture", "6.1.36: accept", "6.1.37: EFAULT"),
        ("below-stack/output", "6.4: accept", "6.4.1: EFAULT"),
        ("readonly-private/capture", "6.1.192: accept", "6.2: EFAULT"),
        ("ext4-shared-readonly/output", "6.1.192: EFAULT", "6.2: accept"),
        ("prot-none/output", "6.1.192: accept", "6.2: EFAULT"),
        ("thp-prot-none/output", "6.1.192: accept", "6.2: EFAULT"),
        ("prot-none-middle/output", "6.1.192: accept", "6.2: EFAULT"),
        ("userfaultfd-handler/capture", "5.11.22: accept", "5.12: EINVAL"),
        ("userfaultfd-handler/capture", "6.1.192: EFAULT", "6.2: accept"),
        ("userfaultfd-user-mode-only/capture", "5.10.262: none", "5.11: EFAULT"),
        ("memfd-secret/output", "5.13.19: none", "5.14: EINVAL"),
        ("xfs-shared-pmd/capture", "6.4.16: accept", "6.5: EFAULT"),
        ("address-wrap/capture", "6.4.9: EFAULT", "6.4.10: EOVERFLOW"),
        ("address-wrap/capture", "6.1.192: EFAULT", "6.5: EOVERFLOW"),
        ("udmabuf/capture", "6.10.14: accept", "6.11: EFAULT"),
        ("guard-pages/capture", "6.12.117: none", "6.13: EFAULT"),
        ("fsdax-xfs-private-cowed/capture", "5.11.22: EOPNOTSUPP", "5.12: accept"),
    ],
)
def test_stable_points(where: str, before: str, after: str) -> None:
    memory, _, direction = where.partition("/")
    for told in (before, after):
        release, _, expected = told.partition(": ")
        assert outcome(memory, direction, release) == expected


@pytest.mark.parametrize("release", ["5.10.262", "6.1.192", "6.12.117", "7.3.4"])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ("anonymous", "accept"),
        ("anonymous-movable", "accept"),
        ("v4l2-mmap-buffer", "accept"),
        ("device-dax", "accept"),
        ("fsdax-ext4-private", "EOPNOTSUPP"),
        ("fsdax-ext4-second-vma", "EFAULT"),
        ("unmapped-first", "EFAULT"),
        ("unmapped-last", "EFAULT"),
        ("kernel-address", "EFAULT"),
        ("null-pointer", "EFAULT"),
        ("zero-length", "EINVAL"),
        ("too-short", "EINVAL"),
        ("remapped-same-address", "accept"),
    ],
)
def test_what_no_kernel_of_today_changes(
    memory: str, direction: str, release: str, expected: str
) -> None:
    assert outcome(memory, direction, release) == expected


def test_shared_file_is_refused_to_writers_only() -> None:
    assert outcome("ext4-shared", "capture", "6.12.117") == "EFAULT"
    assert outcome("ext4-shared", "output", "6.12.117") == "accept"


def test_a_fact_chooses_the_row() -> None:
    assert outcome("drm-dumb-buffer", "capture", "6.12.117", pfnmap=True) == "EFAULT"
    assert outcome("drm-dumb-buffer", "capture", "6.12.117", pfnmap=False) == "accept"
    assert outcome("fsdax-ext4-private-cowed", "output", "7.3.4", movable=True) == (
        "EOPNOTSUPP EFAULT"
    )
    assert outcome("fsdax-ext4-private-cowed", "output", "5.15.81", movable=True) == "EINVAL EFAULT"
    assert outcome("memfd-beyond-eof", "capture", "5.15.81", first_page_bad=True) == "EINVAL"
    assert outcome("memfd-beyond-eof", "capture", "5.15.81") == "EFAULT"


def test_page_frames_are_taken_without_a_pin() -> None:
    rule = rule_for(FAMILY, "pci-bar", "capture", parse("5.10.100"))
    assert rule is not None
    assert rule.accept
    assert not rule.pinned


@pytest.mark.parametrize(
    ("family", "memory", "release", "reason"),
    [
        (FAMILY, "anonymous", "7.4.1", "goes from kernel 5.10 to 7.3, this is 7.4.1"),
        (FAMILY, "anonymous", "5.9.16", "goes from kernel 5.10 to 7.3, this is 5.9.16"),
        (FAMILY, "moon-dust", "6.12.117", "no row for moon-dust/capture on 6.12.117"),
        (FAMILY, "guard-pages", "6.12.117", "MADV_GUARD_INSTALL came with 6.13"),
        ("vb3", "anonymous", "6.12.117", "no rule table for the driver family 'vb3'"),
    ],
)
def test_no_rule_and_why(family: str, memory: str, release: str, reason: str) -> None:
    assert rule_for(family, memory, "capture", parse(release)) is None
    assert reason in why_none(family, memory, "capture", parse(release))


HEAD = 'family = "f"\nfirst = "5.10"\nlast = "7.3"\n'
ROW = (
    '[[rule]]\nid = "a"\nmemory = ["thp*"]\nsince = ["5.10"]\nexpect = "accept"\n'
    'because = "b"\nsource = "mm/gup.c"\n'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + ROW + 'sinse = ["6.1"]\n', "row 'a': unknown key 'sinse'\n  did you mean 'since'?"),
        (HEAD + ROW + "colour = 1\n", "unknown key 'colour'\n  known keys: id, memory"),
        (HEAD + ROW.replace("source", "#"), "row 'a': the key 'source' is missing"),
        (HEAD + ROW.replace('"5.10"]\nexpect', '"soon"]\nexpect'), "bad kernel range: 'soon'"),
        (HEAD + ROW + 'until = ["5.4"]\n', "row 'a': bad kernel range: it ends at 5.4"),
        (HEAD + ROW.replace('["5.10"]', '"5.10"'), "'since' is '5.10', expected a list"),
        (HEAD + ROW.replace('"accept"', '"shrug"'), "'expect' is 'shrug', expected one of"),
        (HEAD + ROW + 'errno = ["EFAULT"]\n', "'errno' goes with expect = \"refuse\""),
        (HEAD + ROW.replace('"accept"', '"refuse"'), "'errno' goes with expect = \"refuse\""),
        (
            HEAD + ROW.replace('"accept"', '"refuse"') + 'errno = ["EFALT"]\n',
            "'EFALT' in 'errno' is no errno's name",
        ),
        (HEAD + ROW + 'direction = ["in"]\n', "direction 'in', expected capture or output"),
        (HEAD + ROW + "when = { movable = 1 }\n", "expected facts that are true or false"),
        (HEAD + ROW + ROW, "row 'a': this id is there twice"),
        (HEAD.replace("5.10", "old") + ROW, "top: bad kernel range: 'old'"),
        ("famly = 1\n" + HEAD + ROW, "unknown key 'famly'\n  did you mean 'family'?"),
        ("= 1", "t.toml: Invalid"),
    ],
)
def test_a_malformed_table(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(HilError) as error:
        read(path)
    assert message in str(error.value)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(HilError, match="No such file"):
        read(tmp_path / "none.toml")


def two_rows(tmp_path: Path, second: str) -> Table:
    path = tmp_path / "t.toml"
    path.write_text(HEAD + ROW + ROW.replace('"a"', '"b"', 1).replace("thp*", second))
    return read(path)


def test_overlapping_rows_are_found(tmp_path: Path) -> None:
    problems = check(two_rows(tmp_path, "thp-part"), ["thp", "thp-part"], [parse("6.1")])
    assert problems == [
        f"rules 'a', 'b' overlap: each matches thp-part/{direction} on 6.1"
        for direction in Direction
    ]


def test_overlapping_rows_are_an_error_of_the_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.rules.table._tables", {"f": two_rows(tmp_path, "*-part")})
    monkeypatch.setattr("hil.rules.table._rows", {})
    monkeypatch.setattr("hil.rules.table._named", {})
    assert rule_for("f", "thp", "capture", parse("6.1")) is not None
    with pytest.raises(HilError, match=r"'a', 'b' overlap: .* thp-part/capture on 6\.1"):
        rule_for("f", "thp-part", "capture", parse("6.1"))


def test_gaps_are_found(tmp_path: Path) -> None:
    problems = check(two_rows(tmp_path, "ksm"), ["ksm", "memfd"], [parse("6.1")])
    assert problems == [
        "no rule for memfd/capture on 6.1",
        "no rule for memfd/output on 6.1",
    ]


def test_a_gap_behind_a_fact_is_found(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(HEAD + ROW + "when = { movable = true }\n")
    problems = check(read(path), ["thp"], [parse("6.1")])
    assert problems[0] == "no rule for thp/capture on 6.1 when {'movable': False}"
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("pattern", "name", "result"),
    [
        ("thp", "thp", True),
        ("thp", "thp-part", False),
        ("*", "", True),
        ("fsdax-*-shared", "fsdax-xfs-shared", True),
        ("fsdax-*-shared", "fsdax-xfs-shared-pmd", False),
        ("*-large-*", "memfd-large-folio", True),
        ("a*a", "a", False),
        ("*b*b", "b", False),
    ],
)
def test_patterns(pattern: str, name: str, result: bool) -> None:
    assert matches(pattern, name) is result


# --- known defects --------------------------------------------------------------------------------


def ids(cell: str, release: str, family: str = FAMILY) -> list[str]:
    return [k.id for k in known_for(Cell.parse(cell), "vivid", family, parse(release))]


def test_the_seed_mails_bug_is_known_on_5_10_only() -> None:
    cell = "v4l2-vivid-video0/anonymous-movable/capture/steady"
    assert "frame-vector-without-longterm" in ids(cell, "5.10.262")
    assert "frame-vector-without-longterm" not in ids(cell, "6.1.192")
    assert "frame-vector-without-longterm" not in ids(cell, "5.10.262", "exynos-g2d")


def test_the_remap_is_known_everywhere() -> None:
    cell = "v4l2-vivid-video0/remapped-same-address/output/steady"
    assert all("userptr-not-reacquired" in ids(cell, r) for r in ("5.10.262", "7.3.4"))


@pytest.mark.parametrize(
    ("release", "there"),
    [
        ("5.10.157", False),
        ("5.10.158", True),
        ("5.10.198", False),
        ("6.1-rc8", True),
        ("6.1.55", True),
        ("6.1.56", False),
        ("6.5.5", True),
        ("6.5.6", False),
        ("6.6", False),
    ],
)
def test_the_warning_for_refused_pointers(release: str, there: bool) -> None:
    found = ids("v4l2-vivid-video0/prot-none/capture/steady", release)
    assert ("warning-for-a-refused-pointer" in found) is there


def test_known_defects_name_verdicts_and_references() -> None:
    for entry in all_known():
        assert entry.reference, entry.id
        assert entry.because, entry.id
        assert all(verdict.bad for verdict in entry.verdicts), entry.id


KNOWN = (
    '[[known]]\nid = "a"\ncells = ["*"]\nsince = ["5.10"]\nverdict = ["stale"]\n'
    'because = "b"\nsource = "s"\nreference = "r"\n'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (KNOWN + 'refrence = "x"\n', "unknown key 'refrence'\n  did you mean 'reference'?"),
        (KNOWN.replace('"stale"', '"rotten"'), "'rotten' in 'verdict' is no verdict"),
        (KNOWN.replace('"stale"', '"ok"'), "must name verdicts that say something bad"),
        (KNOWN.replace('"stale"', '"no-rule"'), "must name verdicts that say something bad"),
        (KNOWN.replace('["stale"]', "[]"), "must name verdicts that say something bad"),
        (KNOWN.replace('"r"', '""'), "'reference' is empty"),
        (KNOWN + 'when = { zones = "Movable" }\n', "unknown key 'zones'\n  did you mean 'zone'?"),
        (KNOWN + KNOWN, "this id is there twice"),
    ],
)
def test_malformed_known_defects(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "k.toml"
    path.write_text(text)
    with pytest.raises(HilError) as error:
        known_module.read(path)
    assert message in str(error.value)


def test_known_never_excuses_what_it_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "k.toml"
    path.write_text(KNOWN)
    (entry,) = known_module.read(path)
    assert entry.excuses(Verdict.STALE, {}, [])
    assert not any(entry.excuses(v, {}, []) for v in Verdict if v is not Verdict.STALE)


# --- the page -------------------------------------------------------------------------------------


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    for made in page.write(tmp_path):
        kept = page.DOCS / made.name
        assert kept.read_text() == made.read_text(), "run: python -m hil.rules.page"


def test_the_page_shows_every_rule_and_class(vmalloc: Table) -> None:
    text = page.page(vmalloc, CLASSES, all_known())
    rows: list[Row] = [row for row in vmalloc.rows if f"**{row.id}**" not in text]
    assert rows == []
    assert all(f"| `{name}` |" in text for name in CLASSES)
    assert not any("no rule" in line for line in text.splitlines() if line.startswith("| `"))


def test_columns_are_ranges_that_differ(vmalloc: Table) -> None:
    heads = [head for head, _ in page.columns(vmalloc, ["udmabuf"])]
    assert heads == ["5.10 to 6.10", "6.11 to 7.3"]
    squares = dict(page.columns(vmalloc, ["ext4-shared"]))
    assert squares["6.5 to 7.3"] == ["EFAULT / take"]


def test_a_table_that_an_image_brings_parsed_is_the_same_table(tmp_path: Path) -> None:
    file = tmp_path / "known.toml"
    file.write_text(known_module.FILE.read_text())
    before = toml.load(file)
    file.with_suffix(toml.PARSED).write_text(json.dumps(before))
    file.write_text("not TOML at all")
    assert toml.load(file) == before
