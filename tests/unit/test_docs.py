# SPDX-License-Identifier: GPL-2.0-or-later
"""README, CONTRIBUTING and docs/: what they name exists."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from docs_parts import ROOT, TEXTS, blocks, flat, prose, tables

from fixtures import hw
from hil import cli
from hil.memory import base
from hil.pinners import v4l2_discovery

# What is named exists


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of each command in a shell block or in backquotes."""
    for name, text in TEXTS.items():
        lines = [line for body in blocks(text, "sh") for line in body.splitlines()]
        lines += re.findall(r"`([^`\n]+)`", prose(text))
        for script in blocks(text, "bash"):
            lines += script.replace('"$hil"', "hil").splitlines()
        for unit in blocks(text, "ini"):
            lines += re.findall(r"^ExecStart=(.*)$", unit, re.M)
        for line in lines:
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            while words and (words[0] == "sudo" or re.fullmatch(r"\w+=\S*", words[0])):
                words.pop(0)
            if "||" in words:
                del words[words.index("||") :]
            if words:
                yield name, [words[0].rpartition("/")[2], *words[1:]]


COMMANDS = list(commands())


def usages(program: str, but: str = "") -> list[Any]:
    found = [
        pytest.param(words, id=f"{name}: {' '.join(words)}")
        for name, words in COMMANDS
        if words[0] == program and len(words) > 1 and words[1] != but
    ]
    assert found, f"no page shows {program}"
    return found


# Words that stand for something in text, and what argparse may be given for them.
_FOR_EXAMPLE = {"...": "x", "S": "1"}


@pytest.mark.parametrize("words", usages("hil", but="bisect"))
def test_hil_commands_are_understood(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = [_FOR_EXAMPLE.get(word, word) for word in words[1:]]
    parser = cli.parser()
    try:
        parser.parse_args(given)
    except SystemExit as end:
        # In a sentence a command may stand for itself: `hil run`, `hil show`, `hil kernels`.
        complaint = capsys.readouterr().err
        assert end.code == 0 or ("required" in complaint and len(given) == 1), complaint


@pytest.mark.parametrize("words", usages("make"))
def test_make_targets_and_variables_are_there(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.M))
    kernels_own = {"bzImage", "modules", "olddefconfig", "allnoconfig"}
    for word in words[1:]:
        if "=" in word:
            variable = word.partition("=")[0]
            assert variable == "O" or re.search(rf"^{variable} \?=", makefile, re.M), word
        elif not word.startswith("-"):
            assert word in targets | kernels_own, word


def _pytest_options() -> set[str]:
    parser = pytest.Parser(_ispytest=True)
    hw.pytest_addoption(parser)
    return {name for group in parser._groups for option in group.options for name in option.names()}


@pytest.mark.parametrize("words", usages("pytest"))
def test_pytest_options_are_there_and_paths_are_joined_by_an_equals_sign(words: list[str]) -> None:
    own = _pytest_options()
    for word, following in zip(words[1:], [*words[2:], ""], strict=True):
        if not word.startswith("--"):
            continue
        name, equals, _ = word.partition("=")
        assert name in own, word
        # pytest takes an argument that is a path for a place of tests.
        assert equals or "/" not in following, f"{word} {following}"


def test_the_lab_keepers_table_has_every_option_of_the_suite() -> None:
    (rows,) = tables(TEXTS["docs/lab-keeper.md"], "option", "what")
    assert {row[0].partition("=")[0] for row in rows} == _pytest_options()


def test_options_named_in_text_are_there() -> None:
    """Also those that stand alone in backquotes: `--cold`, `--module`."""
    known_options = _pytest_options() | {"--term-old", "--term-new", "--strict", "--help", "--only"}

    def add(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            known_options.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                for child in action.choices.values():
                    add(child)

    add(cli.parser())
    for name, text in TEXTS.items():
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose(text)):
            assert option in known_options, f"{name}: {option}"


def test_what_is_slow_is_what_the_readme_says() -> None:
    told = (
        "slow cells (non-video queues, PREPARE_BUF of multi-planar ones, pages of 32 MiB and more, "
        "huge pages in CMA)"
    )
    assert told in flat("README.md")
    slow = {name for name, made in base.all_classes().items() if made.slow}
    gigantic = {name for name in base.all_classes() if name.startswith("hugetlb-1g-")}
    assert slow == gigantic | {"hugetlb-32m-private", "thp-cma"}
    assert [kind.slow for kind in v4l2_discovery.KINDS] == [False, False, True, True, True, True]


def test_the_readme_tells_every_run_option_that_most_people_need() -> None:
    for option in ("--kernel", "--module", "-k", "-m", "--resume"):
        assert option in TEXTS["README.md"], option


@pytest.mark.parametrize("name", TEXTS)
def test_links_resolve(name: str) -> None:
    text = prose(TEXTS[name])
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads}


@pytest.mark.parametrize("name", TEXTS)
def test_files_named_in_text_are_there(name: str) -> None:
    """Paths below the folders of the project; names in capitals stand for something."""
    for path in re.findall(
        r"`((?:hil|fixtures|lab-config|tests|tools|docs)/[\w./-]+)", TEXTS[name]
    ):
        clean = path.rstrip("/.")
        if re.search(r"[A-Z]{3,}\.", clean):
            continue
        missing_on_purpose = clean in ("hil/memory/locked.py", "hil/rules/xdp.toml")
        assert (ROOT / clean).exists() != missing_on_purpose, path


@pytest.mark.parametrize("name", TEXTS)
def test_no_page_is_found_by_accident(name: str) -> None:
    """Every page can be reached from the README."""
    reached, new = set(), {"README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#:]+\.md)", TEXTS.get(page, "")):
            found = os.path.relpath(((ROOT / page).parent / target).resolve(), ROOT)
            if found not in reached:
                new.add(found)
    assert name in reached
