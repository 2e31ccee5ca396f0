# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources of apt, choice of the mirror, updates that go well or not, order of versions."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path

import pytest

from hil.errors import HilError
from hil.lab import archive, cache, hosttools, suites, versions
from hil.lab.apt import Apt
from hil.lab.archive import Archive
from hil.lab.progress import Line, quiet

KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"

DEB822 = f"""\
Types: deb deb-src
# a comment inside
URIs: http://mirror.test/debian http://second.test/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEY}

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Check-Valid-Until: no
Trusted: yes
Signed-By: {KEY}

Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.test/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://key.test/thing
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
"""

ONE_LINE = f"""\
# deb http://commented.test/debian bookworm main
deb [arch=amd64 signed-by={KEY}] http://lines.test/debian bookworm main non-free # tail
deb-src http://source.test/debian bookworm main
deb http://lines.test/debian-security bookworm-security main
deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://vendor.test/linux/debian bookworm stable
deb [signed-by=/etc/apt/keyrings/other.gpg] http://vendor.test/apt bookworm main
deb http://vendor.test/apt bookworm-vendor main
deb broken
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HIL_OFFLINE", raising=False)
    return tmp_path / "cache"


# sources


def test_deb822_stanzas() -> None:
    entries = list(suites.parse_sources(DEB822))
    assert [entry.uri for entry in entries] == [
        "http://mirror.test/debian",
        "http://second.test/debian/",
        "http://mirror.test/debian-security",
        "http://key.test/thing",
    ]
    assert entries[0].suites == ("bookworm", "bookworm-updates")
    assert entries[0].components == ("main", "contrib")
    assert entries[0].signed_by == KEY
    assert entries[3].signed_by.startswith("\n -----BEGIN")


def test_one_line_entries() -> None:
    entries = list(suites.parse_list(ONE_LINE))
    assert [entry.uri for entry in entries[:2]] == [
        "http://lines.test/debian",
        "http://lines.test/debian-security",
    ]
    assert len(entries) == 5
    assert entries[0].components == ("main", "non-free")
    assert entries[0].signed_by == KEY
    assert entries[0].options == {"arch": "amd64"}


@pytest.mark.parametrize(("text", "name"), [(DEB822, "x.sources"), (ONE_LINE, "x.list")])
def test_the_mirror_is_found_among_the_machine_s_sources(
    tmp_path: Path, text: str, name: str
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "ignored.save").write_text("deb http://ignored.test/debian sid main")
    entries = suites.machine_entries(tmp_path / "sources.list", tmp_path)
    mirror = suites.find_mirror(entries, suites.settings())
    host = "mirror" if name == "x.sources" else "lines"
    assert mirror.main.uri == f"http://{host}.test/debian"
    assert mirror.security is not None
    assert mirror.security.uri == f"http://{host}.test/debian-security"


def test_a_mirror_of_unusual_address_serves_when_it_is_the_only_one() -> None:
    entries = list(suites.parse_list("deb http://cache.test:3142/d bookworm main\n"))
    mirror = suites.find_mirror(entries, suites.settings())
    assert mirror.main.uri == "http://cache.test:3142/d"
    assert mirror.security is None


def test_debian_s_own_key_counts_more_than_a_likely_address() -> None:
    vendor = "deb http://vendor.test/debian bookworm main\n"
    cached = f"deb [signed-by={KEY}] http://cache.test/d bookworm main\n"
    for text in (vendor + cached, cached + vendor):
        mirror = suites.find_mirror(suites.parse_list(text), suites.settings())
        assert mirror.main.uri == "http://cache.test/d"


def test_without_a_mirror_the_error_names_the_ways_out() -> None:
    vendor = "deb [signed-by=/v.gpg] http://vendor.test/apt bookworm main\n"
    with pytest.raises(HilError) as caught:
        suites.find_mirror(suites.parse_list(vendor), suites.settings())
    assert "serves Debian's archive" in caught.value.message
    assert "--kernel dir:PATH" in caught.value.hint
    assert "archive.toml" in caught.value.hint


def test_an_address_in_archive_toml_wins(tmp_path: Path) -> None:
    text = (
        suites.DATA.read_text().replace("# mirror", "mirror").replace("# security =", "security =")
    )
    (tmp_path / "a.toml").write_text(text)
    mirror = suites.find_mirror(suites.parse_sources(DEB822), suites.settings(tmp_path / "a.toml"))
    assert mirror.main.uri == "ADDRESS OF A MIRROR OF debian/"
    assert mirror.security is not None


def test_settings_name_an_unknown_key_and_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("suits = []\n")
    with pytest.raises(HilError, match="unknown key 'suits'") as caught:
        suites.settings(file)
    assert "'suites'" in caught.value.hint
    file.write_text("suites = 'sid'\n")
    with pytest.raises(HilError, match="'suites' has a str"):
        suites.settings(file)
    file.write_text("suites = [\n")
    with pytest.raises(HilError, match="cannot read"):
        suites.settings(file)


def test_written_sources_check_signatures_and_keep_how_to_fetch() -> None:
    mirror = suites.find_mirror(suites.parse_sources(DEB822), suites.settings())
    text = suites.write_sources(mirror, ["sid", "trixie"], ["trixie-security"], "amd64", "")
    again = list(suites.parse_sources(text))
    assert [entry.suites for entry in again] == [("sid", "trixie"), ("trixie-security",)]
    assert {entry.signed_by for entry in again} == {KEY}
    assert again[1].options["check-valid-until"] == "no"
    assert all("trusted" not in entry.options for entry in again)
    assert all(entry.options["targets"] == "Packages" for entry in again)


def test_an_entry_without_a_key_gets_debian_s_keyring(tmp_path: Path) -> None:
    (tmp_path / "k.gpg").touch()
    entries = list(suites.parse_list("deb http://lines.test/debian bookworm main\n"))
    mirror = suites.find_mirror(entries, suites.settings())
    text = suites.write_sources(mirror, ["sid"], [], "amd64", str(tmp_path / "k.gpg"))
    assert f"Signed-By: {tmp_path}/k.gpg\n" in text


# updates

GONE = """\
Get:1 http://mirror.test/debian bookworm InRelease [151 kB]
Err:5 http://mirror.test/debian forky-backports Release
  404  Not Found [IP: 192.0.2.1 80]
E: The repository 'http://mirror.test/debian forky-backports Release' does not have a Release file.
"""
DOWN = "".join(
    f"Err:{n} http://mirror.test/debian {suite} InRelease\n  Temporary failure resolving 'x'\n"
    for n, suite in enumerate(("bookworm", "trixie"))
)


class FakeApt:
    """Stands in for apt-get: what it says, and which suites have lists afterwards."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said, self.there, self.updates = "", {"bookworm", "trixie"}, 0
        entries = list(suites.parse_sources(DEB822))
        found = suites.find_mirror(entries, suites.settings())
        monkeypatch.setattr(archive, "mirror", lambda *_: found)
        monkeypatch.setattr(archive, "need", lambda *_: Path("/bin/true"))
        monkeypatch.setattr(Archive, "_suites_there", lambda _: set(self.there))
        monkeypatch.setattr(Apt, "fetch", self._fetch)

    def _fetch(self, *_: object, **__: object) -> tuple[int, str]:
        self.updates += 1
        return (100 if self.said else 0), self.said


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    return FakeApt(monkeypatch)


def test_a_suite_that_the_mirror_lacks_becomes_a_note(apt: FakeApt) -> None:
    apt.said = GONE
    box = Archive(say=quiet)
    assert box.ensure()
    assert box.notes == ["no forky-backports: 404  Not Found"]
    written = (box.folder / "debian.sources").read_text()
    assert "Suites: bookworm trixie\n" in written
    assert Archive(say=quiet).ensure() is False  # a new process, the same day
    assert apt.updates == 1


def test_lists_are_fetched_again_after_a_day_or_when_told_to(
    apt: FakeApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Archive(say=quiet)
    box.ensure()
    assert box.ensure(refresh=True)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert Archive(say=quiet).ensure(daily=False) is False
    assert Archive(say=quiet).ensure()
    assert apt.updates == 3


def test_old_lists_serve_without_network_and_it_is_not_tried_each_time(
    apt: FakeApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    Archive(say=quiet).ensure()
    apt.said = DOWN
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 49 * 3600)
    said: list[str] = []
    box = Archive(say=lambda what, done=None: said.append(what))
    assert box.ensure() is False
    assert said == [f"note: {box.notes[0]}"]
    assert "lists of 2 days ago are used" in said[0]
    assert "Temporary failure resolving" in said[0]
    assert Archive(say=quiet).ensure() is False
    assert apt.updates == 2
    with pytest.raises(HilError, match="Temporary failure"):
        box.ensure(refresh=True)
    monkeypatch.setenv("HIL_OFFLINE", "1")
    monkeypatch.setattr(time, "time", lambda: now + 99 * 3600)
    assert Archive(say=quiet).ensure() is False
    assert apt.updates == 3


def test_no_network_and_nothing_cached_is_an_error_with_a_way_out(apt: FakeApt) -> None:
    apt.said, apt.there = DOWN, set()
    with pytest.raises(HilError) as caught:
        Archive(say=quiet).ensure()
    assert "no package lists could be fetched from http://mirror.test/debian" in str(caught.value)
    assert "Temporary failure resolving 'x'" in caught.value.message
    assert "--kernel deb:FILE" in caught.value.hint
    apt.said = "E: Write error - write (28: No space left on device)\n"
    with pytest.raises(HilError, match="disk full"):
        Archive(say=quiet).ensure()


def test_changed_suites_make_the_lists_old(apt: FakeApt, monkeypatch: pytest.MonkeyPatch) -> None:
    Archive(say=quiet).ensure()
    more = suites.settings()._replace(suites=("bookworm", "trixie", "experimental"))
    monkeypatch.setattr(suites, "settings", lambda: more)
    assert Archive(say=quiet).ensure()


def test_a_suite_and_its_updates_can_be_had_alone(apt: FakeApt) -> None:
    apt.there = {"bookworm", "bookworm-updates", "bookworm-security", "trixie", "trixie-backports"}
    box = Archive(say=quiet)
    entries = list(suites.parse_sources(box.narrowed("bookworm").read_text()))
    assert [entry.suites for entry in entries] == [
        ("bookworm", "bookworm-updates"),
        ("bookworm-security",),
    ]
    (entry,) = suites.parse_sources(box.narrowed("trixie-backports").read_text())
    assert entry.suites == ("trixie", "trixie-backports")
    with pytest.raises(HilError, match="does not offer the suite 'woody'"):
        box.narrowed("woody")


@pytest.mark.skipif(bool(hosttools.missing(["apt-config"])), reason="needs apt")
def test_the_configuration_leaves_proxies_and_drops_hooks(tmp_path: Path) -> None:
    machine = tmp_path / "machine.conf"
    machine.write_text(
        'Acquire::http::Proxy "http://proxy.test:3128";\n'
        'APT::Update::Post-Invoke { "false"; };\nAPT::Default-Release "sid";\n'
    )
    mine = Apt(tmp_path / "state with space", "arm64", quiet).config()
    dump = subprocess.run(
        ["apt-config", "-c", str(mine), "dump"],
        env={**hosttools.environment(), "APT_CONFIG": str(machine)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert 'Acquire::http::Proxy "http://proxy.test:3128";' in dump
    assert f'Dir::State::lists "{tmp_path}/state with space/apt/lists";' in dump
    assert 'APT::Architecture "arm64";' in dump
    assert 'Dir::State::status "/dev/null";' in dump
    assert 'Post-Invoke:: "false"' not in dump
    assert 'Default-Release "sid"' not in dump
    assert 'Acquire::AllowInsecureRepositories "false";' in dump


# words of apt, versions


def test_versions_sort_as_dpkg_sorts_them() -> None:
    ordered = [
        "5.10.262-1",
        "6.1.180-1~deb11u1",
        "6.1.180-1",
        "6.12.90-1~bpo12+1",
        "6.12.90-1",
        "6.12.90-2~bpo12+1",
        "6.12.100-1~deb12u1",
        "6.12.100-1",
        "6.12.100-1+b1",
        "7.4~rc3-1~exp1",
        "7.4-1",
        "7.4.1-1",
        "1:1.0",
    ]
    assert sorted(reversed(ordered), key=versions.key) == ordered
    if hosttools.find("dpkg"):
        for older, newer in itertools.pairwise(ordered):
            subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("6.1.192-2", "6.1.192"),
        ("6.12.117-1~deb12u1", "6.12.117"),
        ("7.4~rc3-1~exp1", "7.4-rc3"),
        ("2:6.12-1", "6.12"),
    ],
)
def test_the_release_inside_a_package_version(version: str, release: str) -> None:
    assert versions.upstream(version) == release


def test_the_progress_line_prints_each_thing_once_when_it_is_no_terminal(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream, Line(stream) as line:
        for done in (0.0, 0.5, 1.0):
            line("fetching", done)
        line("unpacking")
        line("note: old")
    assert (tmp_path / "out").read_text() == "fetching\nunpacking\nnote: old\n"


def test_file_checksums_follow_the_content(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"a")
    first = cache.sha256_file(file)
    assert first == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    file.write_bytes(b"bb")
    assert cache.sha256_file(file) != first
