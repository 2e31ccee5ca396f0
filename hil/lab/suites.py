# SPDX-License-Identifier: GPL-2.0-or-later
"""The suites to fetch from, and the mirror that this machine's apt sources name.

Formats: sources.list(5), one line an entry (``.list``) and deb822 stanzas (``.sources``).
"""

from __future__ import annotations

import difflib
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from hil.errors import HilError

DATA = Path(__file__).resolve().parents[2] / "lab-config" / "archive.toml"


class Settings(NamedTuple):
    """lab-config/archive.toml."""

    suites: tuple[str, ...]
    security_suites: tuple[str, ...]
    flavours: Mapping[str, str]  # Debian architecture -> name of its plain kernel flavour
    keyring: str
    refresh_hours: float
    mirror: str  # empty: the machine's apt sources name it
    security: str


class Entry(NamedTuple):
    """One source of apt: binary packages of some suites at one address."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str  # file names or an embedded key as deb822 writes it; empty: not named
    options: Mapping[str, str]  # further deb822 fields, keys in lower case


class Mirror(NamedTuple):
    """Where Debian's archive is to be had, and its security part where there is one."""

    main: Entry
    security: Entry | None


def settings(path: Path = DATA) -> Settings:
    """Read the data file; HilError names an unknown key and the nearest known one."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HilError(f"cannot read {path}: {error}", "It must be TOML; see its comments.") from (
            error
        )
    wanted: dict[str, type | tuple[type, ...]] = {
        "suites": list,
        "security-suites": list,
        "flavours": dict,
        "keyring": str,
        "refresh-hours": (int, float),
        "mirror": str,
        "security": str,
    }
    for key, value in table.items():
        if key not in wanted:
            near = difflib.get_close_matches(key, wanted, 1, 0)
            raise HilError(f"{path}: unknown key {key!r}", f"Did you mean {near[0]!r}?")
        if not isinstance(value, wanted[key]):
            raise HilError(f"{path}: {key!r} has a {type(value).__name__}", "See its comments.")
    return Settings(
        suites=tuple(table.get("suites", ())),
        security_suites=tuple(table.get("security-suites", ())),
        flavours=dict(table.get("flavours", {})),
        keyring=table.get("keyring", ""),
        refresh_hours=float(table.get("refresh-hours", 24)),
        mirror=table.get("mirror", ""),
        security=table.get("security", ""),
    )


def parse_list(text: str) -> Iterator[Entry]:
    """The ``deb`` entries of a one-line style file; broken lines are left to apt to complain of."""
    for line in text.splitlines():
        words = line.partition("#")[0].strip()
        if not words.startswith("deb") or words.split(None, 1)[0] != "deb":
            continue
        rest = words[3:].strip()
        options: dict[str, str] = {}
        if rest.startswith("["):
            inside, _, rest = rest[1:].partition("]")
            try:
                for word in shlex.split(inside):
                    key, _, value = word.partition("=")
                    options[key.strip().lower()] = value
            except ValueError:
                continue
        fields = rest.split()
        if len(fields) >= 2:
            signed_by = options.pop("signed-by", "").replace(",", " ")
            yield Entry(fields[0], (fields[1],), tuple(fields[2:]), signed_by, options)


def parse_sources(text: str) -> Iterator[Entry]:
    """The enabled ``deb`` entries of a deb822 file, one for each address of a stanza."""
    stanza: dict[str, str] = {}
    last = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            yield from _from_stanza(stanza)
            stanza, last = {}, ""
        elif line[0] in " \t" and last:
            stanza[last] += "\n" + line
        elif ":" in line:
            key, _, value = line.partition(":")
            last = key.strip().lower()
            stanza[last] = value.strip()


def _from_stanza(stanza: Mapping[str, str]) -> Iterator[Entry]:
    fields = dict(stanza)
    kinds = fields.pop("types", "").split()
    enabled = fields.pop("enabled", "yes").lower() not in ("no", "false", "0", "off", "disable")
    if "deb" not in kinds or not enabled:
        return
    suites = tuple(fields.pop("suites", "").split())
    components = tuple(fields.pop("components", "").split())
    signed_by = fields.pop("signed-by", "")
    for uri in fields.pop("uris", "").split():
        yield Entry(uri, suites, components, signed_by, fields)


def machine_entries(sourcelist: Path, sourceparts: Path) -> list[Entry]:
    """Every entry of this machine's apt sources; files that cannot be read are passed over."""
    files = [sourcelist] if sourcelist.is_file() else []
    if sourceparts.is_dir():
        files += sorted(p for p in sourceparts.iterdir() if p.suffix in (".list", ".sources"))
    entries: list[Entry] = []
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        entries += parse_sources(text) if file.suffix == ".sources" else parse_list(text)
    return entries


def _is_security(entry: Entry) -> bool:
    return any(suite.endswith(("-security", "/updates")) for suite in entry.suites)


_STABLE_NAMES = ("stable", "oldstable", "oldoldstable", "testing", "unstable")


def _likeness(entry: Entry, releases: Iterable[str]) -> int:
    """How much an entry looks like Debian's own archive; 0 is not at all.

    Other archives name suites after Debian's releases too; key and address tell them apart.
    A wrong guess does no harm: its lists would not carry Debian's signature.
    """
    names = {suite.partition("/")[0].partition("-")[0] for suite in entry.suites}
    if "main" not in entry.components or not names & {*releases, *_STABLE_NAMES}:
        return 0
    if not any(
        suite.endswith(("-security", "/updates", "-updates", "-backports", "-proposed-updates"))
        or "-" not in suite
        for suite in entry.suites
    ):
        return 0
    parts = unquote(urlsplit(entry.uri).path).strip("/").removesuffix(".list").split("/")
    score = 1
    if "debian-archive" in entry.signed_by:
        score += 4
    elif entry.signed_by:
        score -= 1
    if parts[-1] in ("debian", "debian-security"):
        score += 2
    elif any("debian" in part for part in parts):
        score += 1
    if {"contrib", "non-free", "non-free-firmware"} & set(entry.components):
        score += 1
    return max(score, 0)


def find_mirror(entries: Iterable[Entry], wanted: Settings) -> Mirror:
    """The entry that serves Debian's archive, and the one of its security part.

    An address in archive.toml wins over the machine's sources.  HilError when neither names one.
    """
    releases = [suite for suite in wanted.suites if "-" not in suite]
    best: dict[bool, tuple[int, Entry]] = {}
    for entry in entries:
        score = _likeness(entry, releases)
        kind = _is_security(entry)
        if score and (kind not in best or score > best[kind][0]):
            best[kind] = (score, entry)
    main = best[False][1] if False in best else None
    security = best[True][1] if True in best else None
    if wanted.mirror:
        main = Entry(wanted.mirror, (), ("main",), "", {})
        security = Entry(wanted.security, (), ("main",), "", {}) if wanted.security else None
    if main is None:
        raise HilError(
            "no entry of this machine's apt sources serves Debian's archive",
            f"Name a mirror in {DATA}, or take a kernel of your own: --kernel deb:FILE[,FILE] or "
            "--kernel dir:PATH.",
        )
    return Mirror(main, security)


# Fields of the machine's entry that say how to fetch, not what.  Trusted: and Allow-*: are left
# out on purpose: signatures are always checked.
_KEPT = ("by-hash", "check-valid-until", "check-date", "date-max-future", "pdiffs")


def write_sources(
    mirror: Mirror, suites: Iterable[str], security: Iterable[str], arch: str, keyring: str
) -> str:
    """A deb822 sources file for the suites: package lists of ``arch`` and nothing else."""
    stanzas = []
    for entry, names in ((mirror.main, list(suites)), (mirror.security, list(security))):
        if entry is None or not names:
            continue
        signed_by = entry.signed_by or (keyring if Path(keyring).is_file() else "")
        lines = [
            "Types: deb",
            f"URIs: {entry.uri}",
            f"Suites: {' '.join(names)}",
            "Components: main",
            f"Architectures: {arch}",
            "Targets: Packages",
        ]
        lines += [f"{key.title()}: {entry.options[key]}" for key in _KEPT if key in entry.options]
        if signed_by:
            lines.append(f"Signed-By: {signed_by}")
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)
