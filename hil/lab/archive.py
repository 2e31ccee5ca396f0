# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's archive: which packages there are in which suites, and fetching them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from hil.errors import HilError
from hil.lab import cache, suites
from hil.lab.apt import INSTEAD, Apt
from hil.lab.hosttools import ToolError, need, run
from hil.lab.progress import Line, Say

_RETRY_SECONDS = 900.0  # how long a failed refresh is not tried again


class Package(NamedTuple):
    """One version of one binary package."""

    name: str
    version: str
    suites: tuple[str, ...]  # that offer it
    size: int  # bytes to fetch
    installed: int  # bytes unpacked, as the package says
    sha256: str


class Archive:
    """apt's view of the suites in lab-config/archive.toml, for one Debian architecture."""

    def __init__(self, arch: str = "amd64", say: Say | None = None) -> None:
        self.arch = arch
        self.settings = suites.settings()
        self.folder = cache.root() / "archive" / arch
        self._say: Say = Line() if say is None else say
        self._apt = Apt(self.folder, arch, self._say)
        self._state_file = self.folder / "state.json"
        state = cache.read_json(self._state_file)
        self._state: dict[str, object] = state if isinstance(state, dict) else {}

    # state

    @property
    def updated(self) -> float:
        """When the lists were fetched, seconds since the epoch; 0 is never."""
        return self._number("updated")

    @property
    def notes(self) -> list[str]:
        """What the last update had to leave out, a sentence each."""
        notes = self._state.get("notes")
        return [str(note) for note in notes] if isinstance(notes, list) else []

    def _number(self, key: str) -> float:
        value = self._state.get(key)
        return float(value) if isinstance(value, int | float) else 0.0

    def _settings_changed(self) -> bool:
        return self._state.get("suites") != self._wanted()

    def _wanted(self) -> list[str]:
        return [*self.settings.suites, *self.settings.security_suites, self.settings.mirror]

    def ensure(self, *, refresh: bool = False, daily: bool = True) -> bool:
        """Fetch the lists when missing, a day old (if ``daily``), or told to ``refresh``.

        True when they were fetched now.  When they are there and cannot be renewed, the old ones
        serve and `notes` says so; that is tried again after a quarter of an hour, not each time.
        HIL_OFFLINE in the environment forbids the network.  HilError when there is nothing to use.
        """
        age = time.time() - self.updated
        fresh = self.updated and not self._settings_changed()
        if fresh and not refresh:
            recently_tried = time.time() - self._number("tried") < _RETRY_SECONDS
            if not daily or 0 <= age < self.settings.refresh_hours * 3600 or recently_tried:
                return False
        if os.environ.get("HIL_OFFLINE") and self.updated and not refresh:
            return False
        try:
            self.update()
        except HilError as error:
            if refresh or not self.updated:
                raise
            self._state["tried"] = time.time()
            self._state["notes"] = [f"lists of {_age(age)} ago are used: {error.message}"]
            cache.write_json(self._state_file, self._state)
            self._say(f"note: {self.notes[0]}")
            return False
        return True

    def update(self) -> None:
        """Fetch the lists of every suite.  A suite that the mirror lacks becomes a note.

        HilError when no suite could be had, with apt's own reason.
        """
        need("apt-get", INSTEAD)
        found = mirror(self.settings)
        cache.need_space(self.folder, 400_000_000, "the archive's package lists")
        with cache.lock(f"archive-{self.arch}"):
            self._apt.config()
            wanted, security = list(self.settings.suites), list(self.settings.security_suites)
            self._write_sources(found, wanted, security)
            began = time.time()
            what = f"fetching the package lists of {len(wanted) + len(security)} Debian suites"
            _, said = self._apt.fetch(["update"], what)
            there = self._suites_there()
            reasons = _reasons(said)
            failed = [name for name in (*wanted, *security) if name in reasons]
            if "No space left on device" in said:
                raise cache.no_space(self.folder, "the archive's package lists", 400_000_000)
            # apt keeps old lists when the network fails, and may call that a success
            if not there - set(failed):
                raise _unreachable(found, said)
            notes = [f"no {name}: {reasons[name]}" for name in failed]
            if found.security is None:
                notes.append("no security suites: the machine's apt sources name none")
            self._write_sources(
                found,
                [name for name in wanted if name in there],
                [name for name in security if name in there],
            )
            self._state = {
                "updated": began,
                "tried": began,
                "notes": notes,
                "suites": self._wanted(),
                "there": sorted(there),
            }
            cache.write_json(self._state_file, self._state)

    def _write_sources(
        self, found: suites.Mirror, wanted: Iterable[str], security: Iterable[str]
    ) -> None:
        self._apt.sources.write_text(
            suites.write_sources(found, wanted, security, self.arch, self.settings.keyring)
        )
        cache.write_json(self.folder / "mirror.json", [found.main, found.security])

    def _suites_there(self) -> set[str]:
        listing = self._apt.run("apt-get", "indextargets", "--format", "$(RELEASE)|$(FILENAME)")
        pairs = (line.partition("|") for line in listing.splitlines())
        return {suite for suite, _, file in pairs if Path(file).exists()}

    def narrowed(self, suite: str) -> Path:
        """A sources file with one suite, its updates and its security part; lists are shared."""
        self.ensure(daily=False)
        base, _, extra = suite.partition("-")
        have = self._state.get("there")
        there = [str(name) for name in have] if isinstance(have, list) else []
        names = {base, f"{base}-updates", f"{base}-security", suite}
        if suite not in there:
            raise HilError(
                f"the mirror does not offer the suite {suite!r}",
                f"It offers {', '.join(there)}; `hil kernels list --refresh` asks it again.",
            )
        saved = json.loads((self.folder / "mirror.json").read_text())
        main, security = (suites.Entry(*e) if e else None for e in saved)
        assert main is not None
        text = suites.write_sources(
            suites.Mirror(main, security),
            [name for name in self.settings.suites if name in names and name in there],
            [name for name in self.settings.security_suites if name in names and name in there],
            self.arch,
            self.settings.keyring,
        )
        file = self.folder / f"only-{base}{'-' + extra if extra else ''}.sources"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
        return file

    # questions

    def names(self, prefix: str) -> list[str]:
        """Names of packages that begin with ``prefix``."""
        return self._apt.run("apt-cache", "pkgnames", prefix).split()

    def packages(self, names: Sequence[str]) -> list[Package]:
        """Every version of the named packages, and the suites that offer each."""
        if not names:
            return []
        offered: dict[tuple[str, str], list[str]] = {}
        for line in self._apt.run("apt-cache", "madison", *names).splitlines():
            name, version, source = (field.strip() for field in line.split("|", 2))
            place = source.split()  # ADDRESS SUITE/COMPONENT ARCH Packages
            offered.setdefault((name, version), []).append(place[1].rpartition("/")[0])
        found = []
        for stanza in self._apt.run("apt-cache", "show", *names).split("\n\n"):
            fields = _stanza(stanza)
            key = (fields.get("Package", ""), fields.get("Version", ""))
            if key in offered:
                found.append(
                    Package(
                        name=key[0],
                        version=key[1],
                        suites=tuple(dict.fromkeys(offered.pop(key))),
                        size=int(fields.get("Size", 0)),
                        installed=int(fields.get("Installed-Size", 0)) * 1024,
                        sha256=fields.get("SHA256", ""),
                    )
                )
        return found

    def closure(self, names: Sequence[str], suite: str) -> list[str]:
        """``name=version`` of ``names`` and of all that they need in an empty system."""
        words = ["install", "--print-uris", "-qq", "-y", "--no-install-recommends"]
        if "-" in suite:
            words += ["-t", suite]
        try:
            listing = self._apt.run("apt-get", *words, *names, only=self.narrowed(suite))
        except ToolError as error:
            raise HilError(
                f"apt cannot choose packages from {suite}: {error.last_line}",
                "Check the names; `hil kernels list --refresh` fetches the lists anew.",
            ) from error
        chosen = []
        for file in re.findall(r"^'[^']*' (\S+)_[^_\s]+\.deb ", listing, re.MULTILINE):
            name, _, version = file.partition("_")
            chosen.append(f"{name}={unquote(version)}")
        return sorted(chosen)

    def download(
        self, chosen: Sequence[str], folder: Path, what: str, only: Path | None = None
    ) -> list[Path]:
        """Fetch ``name=version`` packages into ``folder``; apt checks them.  The files, sorted."""
        status, said = self._apt.fetch(["download", *chosen], what, cwd=folder, only=only)
        files = sorted(folder.glob("*.deb"))
        if "No space left on device" in said:
            raise cache.no_space(folder, what)
        if status or len(files) < len(chosen):
            lines = [line for line in said.splitlines() if line.startswith(("E:", "Err:"))]
            raise HilError(
                f"{what} failed: {lines[-1] if lines else said[-300:]}",
                f"Is the network up?  `hil kernels list --refresh` renews the lists.  {INSTEAD}",
            )
        return files


def mirror(settings: suites.Settings | None = None) -> suites.Mirror:
    """Debian's mirror by archive.toml or by the sources that this machine's apt reads.

    HilError when neither names one.
    """
    listing = run(
        [
            "apt-config",
            "shell",
            "LIST",
            "Dir::Etc::sourcelist/f",
            "PARTS",
            "Dir::Etc::sourceparts/d",
        ]
    ).decode()
    places = dict(re.findall(r"^(\w+)='(.*)'$", listing, re.MULTILINE))
    entries = suites.machine_entries(
        Path(places.get("LIST", "/etc/apt/sources.list")),
        Path(places.get("PARTS", "/etc/apt/sources.list.d")),
    )
    return suites.find_mirror(entries, settings or suites.settings())


def _stanza(text: str) -> Mapping[str, str]:
    pairs = (line.partition(": ") for line in text.splitlines() if not line.startswith(" "))
    return {key: value for key, _, value in pairs}


def _age(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def _reasons(said: str) -> dict[str, str]:
    """Suite -> why apt could not have it, from what apt-get update prints."""
    reasons: dict[str, str] = {}
    lines = said.splitlines()
    for number, line in enumerate(lines):
        # Err:7 ADDRESS SUITE Release, and the reason on the next line
        if match := re.match(r"Err:\d+ \S+ (\S+) ", line):
            why = lines[number + 1].strip() if number + 1 < len(lines) else ""
            reasons[match[1]] = re.sub(r"\s*\[IP: .*?\]", "", why) or "apt gave no reason"
    for suite, why in re.findall(r"^E: The repository '\S+ (\S+) \w+' (.*)$", said, re.MULTILINE):
        reasons.setdefault(suite, why)
    return reasons


def _unreachable(found: suites.Mirror, said: str) -> HilError:
    why = next((w for w in _reasons(said).values()), "") or next(
        (line for line in said.splitlines() if line.startswith(("E:", "W:"))), "apt gave no reason"
    )
    if "NO_PUBKEY" in why:
        remedy = "apt-get install debian-archive-keyring brings the keys of newer releases."
        return HilError(f"{found.main.uri} is signed with keys that are not here: {why}", remedy)
    return HilError(
        f"no package lists could be fetched from {found.main.uri}: {why}",
        f"Check the network and proxy (apt-get update must work).  {INSTEAD}",
    )
