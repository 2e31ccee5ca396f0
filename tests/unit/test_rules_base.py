# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule tables that rest on another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import HilError
from hil.memory.base import all_classes
from hil.rules import table as tables
from hil.rules.page import FAMILIES, _square, series
from hil.rules.table import check, read, rule_for, table, why_none
from hil.system.release import Release, parse

CONTIG, EXYNOS = "vb2-dma-contig", "exynos-g2d"
KERNEL = parse("6.12.118")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_class_direction_and_kernel_has_one_rule(family: str) -> None:
    found = table(family)
    assert found is not None
    releases = [*(Release(*pair) for pair in series(found)), parse("6.1.192"), KERNEL]
    assert check(found, all_classes(), releases) == []


def outcome(family: str, memory: str, direction: str = "capture", **facts: bool) -> str:
    rule = rule_for(family, memory, direction, KERNEL, facts)
    if rule is None:
        return "none"
    return "accept" if rule.accept else " ".join(rule.errnos)


def test_the_funnels_of_a_table_take_the_place_of_its_bases() -> None:
    def habana(memory: str, release: str) -> str:
        rule = rule_for("habanalabs", memory, "output", parse(release))
        assert rule is not None
        return " ".join(rule.errnos)

    assert habana("unmapped-middle", "6.1.192") == "EFAULT"
    assert habana("unmapped-middle", "6.12.118") == habana("guard-pages", "7.3.4") == "ENOMEM"
    assert habana("fsdax-ext4-second-vma", "6.12") == "ENOMEM"
    assert habana("fsdax-ext4-shared", "6.12") == "EOPNOTSUPP"
    # videobuf2's own funnel has no say here
    assert habana("prot-none-shared", "5.15.81") == "EFAULT"
    assert habana("ext4-beyond-eof", "6.12.118") == "EFAULT"


@pytest.mark.parametrize(
    ("memory", "facts", "expected"),
    [
        ("anonymous", {}, "accept"),
        ("anonymous", {"scattered": True}, "EFAULT"),
        ("anonymous", {"unaligned": True}, "EINVAL"),
        ("anonymous", {"unaligned": True, "scattered": True}, "EINVAL"),
        # What was never pinned keeps its own errno, wherever it lies.
        ("fsdax-ext4-shared", {"scattered": True}, "EOPNOTSUPP"),
        ("zero-length", {"scattered": True}, "EINVAL"),
        ("device-dax", {"above_4g": True}, "EIO"),
        ("device-dax", {}, "accept"),
    ],
)
def test_dma_contig_wants_one_run(memory: str, facts: dict[str, bool], expected: str) -> None:
    assert outcome(CONTIG, memory, **facts) == expected


@pytest.mark.parametrize("direction", ["capture", "output"])
@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ("anonymous", "accept"),
        ("readonly-private", "EFAULT"),
        ("fsdax-ext4-shared", "EFAULT"),
        ("zero-length", "EFAULT"),
        ("address-wrap", "EFAULT"),
        ("guard-pages", "none"),
    ],
)
def test_exynos_writes_both_ways_and_tells_efault(
    memory: str, direction: str, expected: str
) -> None:
    assert outcome(EXYNOS, memory, direction, scattered=True) == expected


def test_why_there_is_no_rule_comes_from_the_base() -> None:
    assert "6.13" in why_none(EXYNOS, "guard-pages", "capture", KERNEL)


def test_the_page_shows_what_both_tables_say() -> None:
    contig, exynos = table(CONTIG), table(EXYNOS)
    assert contig is not None and exynos is not None
    assert _square(contig, "anonymous", KERNEL) == (
        "take; EINVAL when unaligned; EFAULT when scattered"
    )
    assert _square(exynos, "readonly-private", KERNEL) == "EFAULT"
    assert _square(exynos, "fsdax-ext4-shared", KERNEL) == "EFAULT"


BASE = (
    'family = "b"\nfirst = "6.1"\nlast = "6.12"\n[[rule]]\nid = "r"\nmemory = ["x"]\n'
    'since = ["6.1"]\nexpect = "accept"\nbecause = "b"\nsource = "a.c"\n'
)
OWN = BASE.replace('"b"\n', '"o"\n', 1).replace('"r"', '"own"')


def written(folder: Path, own: str) -> Path:
    (folder / "b.toml").write_text(BASE)
    path = folder / "o.toml"
    path.write_text(own)
    return path


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ('base = "nothing"\n' + OWN, "there is no table 'nothing' to rest on"),
        (OWN + 'instead-of = "accept"\n', "'instead-of' needs a 'base'"),
        ('base = "b"\nbase-errno = ["EFOO"]\n' + OWN, "'EFOO' in 'base-errno' is no errno"),
        ('base = "b"\nbase-direction = "in"\n' + OWN, "'base-direction' is 'in'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, own: str, message: str) -> None:
    with pytest.raises(HilError, match=message):
        read(written(tmp_path, own))


def test_a_row_in_place_of_an_acceptance_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OWN.replace('["x"]', '["*"]').replace('"accept"', '"refuse"\nerrno = ["EIO"]')
    made = read(written(tmp_path, 'base = "b"\n' + own + 'instead-of = "accept"\n'))
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    for name in ("_tables", "_rows", "_named"):
        monkeypatch.setattr(tables, name, {})
    assert check(made, ["x", "y"], [KERNEL]) == [
        f"no rule for y/{direction} on {KERNEL}" for direction in ("capture", "output")
    ]
    found = rule_for("o", "x", "capture", KERNEL)
    assert found is not None and found.errnos == ("EIO",)
    assert rule_for("o", "y", "capture", KERNEL) is None
