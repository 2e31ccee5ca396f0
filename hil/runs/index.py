# SPDX-License-Identifier: GPL-2.0-or-later
"""history.sqlite beside the run folders: what each cell came to in each run, ready to be asked.

The folders stay the truth.  The index is brought up to date whenever it is opened: a folder whose
journal or run.json changed is read anew, one that is gone is forgotten.  A file that is damaged, or
of another version, is dropped and made again; one that is not ours is put aside.  Where none can be
written (a folder of somebody else's, a full disk) the index is made in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hil.errors import HilError
from hil.runs.brief import briefs
from hil.runs.diff import answer
from hil.runs.folder import RunFolder, newest
from hil.runs.outcome import outcome_of
from hil.runs.stream import Cells

NAME = "history.sqlite"
_APPLICATION = 0x68696C68
"""In the file's header, so that no other program's database is taken for an index."""
_VERSION = 1
_PATIENCE = 60.0
"""Seconds that another process may take to bring the index up to date."""

_LONG = 20 << 20
"""Bytes of journals that take seconds to read: then it is told which."""

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL, board TEXT NOT NULL,
    kernel TEXT NOT NULL, spec TEXT NOT NULL, started TEXT NOT NULL, status TEXT NOT NULL,
    selection TEXT NOT NULL, modules TEXT NOT NULL, cells INTEGER NOT NULL);
CREATE TABLE cells (id INTEGER PRIMARY KEY, cell TEXT NOT NULL UNIQUE);
CREATE TABLE results (
    cell INTEGER NOT NULL REFERENCES cells, run INTEGER NOT NULL REFERENCES runs,
    verdict TEXT NOT NULL, outcome TEXT NOT NULL, known TEXT NOT NULL, answer TEXT NOT NULL,
    PRIMARY KEY (cell, run)) WITHOUT ROWID;
CREATE INDEX by_run ON results (run);
"""

Say = Callable[[str], None]


class Index:
    """The index of one folder of runs, up to date when it was opened.  Use as a context manager."""

    def __init__(self, root: Path, say: Say = lambda text: None) -> None:
        """Open the index of ``root`` and read what is new; ``say`` hears of long work and repairs.

        HilError when ``root`` holds no run.
        """
        self.root, self.file, self._say = root, root / NAME, say
        if not newest(root):
            raise HilError(f"{root}/ holds no run", "Make one: hil run; or --out DIR names another")
        self._database = self._opened()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        self._database.close()

    def ask(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query gives.  Damage that shows only now costs one rebuild."""
        values = tuple(values)
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            if not _damage(error):
                raise HilError(f"{self.file}: {error}", "Try again.") from error
            self._say(f"note: {self.file} is damaged ({error}): making it anew")
            self.rebuild()
            return self._database.execute(query, values).fetchall()

    def rebuild(self) -> None:
        """Forget all and read every run folder again."""
        try:
            with _writing(self._database):
                _make_tables(self._database)
            self._refresh(self._database)
        except sqlite3.DatabaseError:
            self._database.close()
            with contextlib.suppress(OSError):
                self._discard()
            self._database = self._opened()

    @property
    def in_memory(self) -> bool:
        """Whether the index could not be kept."""
        return not any(row[2] for row in self._database.execute("PRAGMA database_list"))

    def _opened(self) -> sqlite3.Connection:
        for _ in range(2):
            database = None
            try:
                database = self._connected()
                self._refresh(database)
                return database
            except sqlite3.DatabaseError as error:
                if database is not None:
                    database.close()
                if not _damage(error):
                    return self._memory(error)
                self._say(f"note: {self.file} is damaged ({error}): making it anew")
                try:
                    self._discard()
                except OSError as cannot:
                    return self._memory(cannot)
        return self._memory("it was damaged twice")

    def _connected(self) -> sqlite3.Connection:
        """The file with our tables in it.  sqlite3.DatabaseError when it cannot be used."""
        aside = self.file.with_name(f"{NAME}.foreign")
        if self.file.is_file() and self._foreign():
            self._say(f"note: {self.file} is no index of this suite: it is {aside.name} now")
            try:
                self.file.replace(aside)
            except OSError as error:
                raise sqlite3.OperationalError(str(error)) from error
        database = sqlite3.connect(self.file, timeout=_PATIENCE, isolation_level=None)
        try:
            with _writing(database):
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version != _VERSION:
                    _make_tables(database)
        except BaseException:
            database.close()
            raise
        return database

    def _foreign(self) -> bool:
        """Whether the file is something, and nothing that this suite made."""
        try:
            head = self.file.read_bytes()[:100] if self.file.stat().st_size else b""
        except OSError:
            return False
        if not head:
            return False
        # https://www.sqlite.org/fileformat.html: the application id is at 68 of the header.
        ours = head[68:72] == _APPLICATION.to_bytes(4, "big")
        return not (head.startswith(b"SQLite format 3\0") and ours)

    def _discard(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            self.file.with_name(NAME + suffix).unlink(missing_ok=True)

    def _memory(self, why: object) -> sqlite3.Connection:
        self._say(f"note: {self.file} cannot be kept ({why}): it is made in memory, this time")
        database = sqlite3.connect(":memory:", isolation_level=None)
        with contextlib.suppress(sqlite3.Error):  # what is in the file needs no reading again
            uri = f"{self.file.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as kept:
                if kept.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
                    kept.backup(database)
        if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            _make_tables(database)
        self._refresh(database)
        return database

    def _refresh(self, database: sqlite3.Connection) -> None:
        """Read the folders that are new or changed, forget those that are gone."""
        if not self._stale(database):
            return
        with _writing(database):
            changed, gone = self._changes(database)  # again: another process may have been quicker
            for name in [*gone, *changed]:
                database.execute(
                    "DELETE FROM results WHERE run IN (SELECT id FROM runs WHERE name = ?)", (name,)
                )
                database.execute("DELETE FROM runs WHERE name = ?", (name,))
            folders = {name: RunFolder(self.root / name) for name in changed}
            long = sum(_size(folder) for folder in folders.values()) > _LONG
            for count, (name, folder) in enumerate(folders.items(), 1):
                if long:
                    self._say(f"reading {name} ({count} of {len(changed)})")
                _add(database, folder, changed[name])
            database.execute("DELETE FROM cells WHERE id NOT IN (SELECT cell FROM results)")

    def _stale(self, database: sqlite3.Connection) -> bool:
        return any(self._changes(database))

    def _changes(self, database: sqlite3.Connection) -> tuple[dict[str, str], set[str]]:
        """Folders to be read, with their stamps, and runs that are no longer there."""
        known = dict(database.execute("SELECT name, stamp FROM runs").fetchall())
        there = {path.name: _stamp(RunFolder(path)) for path in newest(self.root)}
        changed = {name: stamp for name, stamp in there.items() if known.get(name) != stamp}
        return changed, known.keys() - there.keys()


def _damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault; else it is locked, read-only, full or somebody else's."""
    if not isinstance(error, sqlite3.OperationalError):
        return True  # "malformed", "file is not a database"
    # A table or a column that is not there.
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


def _make_tables(database: sqlite3.Connection) -> None:
    for kind, name in database.execute(
        "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    ).fetchall():
        if kind in ("table", "view"):
            database.execute(f"DROP {kind} IF EXISTS {name}")
    for statement in _SCHEMA.split(";"):
        if statement.strip():
            database.execute(statement)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {_VERSION}")


@contextlib.contextmanager
def _writing(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and no other process beside."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _stamp(folder: RunFolder) -> str:
    """Changes when the journal or run.json does."""
    parts = []
    for path in (folder.journal, folder.meta):
        try:
            status = path.stat()
        except OSError:
            parts.append("-")
        else:
            parts.append(f"{status.st_size}:{status.st_mtime_ns}")
    return " ".join(parts)


def _size(folder: RunFolder) -> int:
    try:
        return folder.journal.stat().st_size
    except OSError:
        return 0


def _add(database: sqlite3.Connection, folder: RunFolder, stamp: str) -> None:
    meta: dict[str, Any] = {}
    records: list[dict[str, Any]] = []
    status = "unreadable"
    with contextlib.suppress(HilError):  # it counts as seen, and says so by its status
        meta = folder.read_meta()
        records = list(briefs(Cells(folder.journal)))
        status = str(meta.get("status") or "complete")
    selection = meta.get("selection") or {}
    kernel = meta.get("kernel") or next((r["kernel"] for r in records if r.get("kernel")), "")
    run = database.execute(
        "INSERT INTO runs (name, stamp, board, kernel, spec, started, status, selection, modules,"
        " cells) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            folder.path.name, stamp, str(meta.get("board") or ""), str(kernel),
            str(meta.get("kernel_spec") or ""), str(meta.get("started") or ""), status,
            " ".join(f"-{key[0]} {text!r}" for key in ("keywords", "marks")
                     if (text := selection.get(key))),
            "\n".join(sorted(map(str, meta.get("own_modules") or []))), len(records),
        ),
    ).lastrowid  # fmt: skip
    database.executemany(
        "INSERT OR IGNORE INTO cells (cell) VALUES (?)", ((record["cell"],) for record in records)
    )
    database.executemany(
        "INSERT INTO results SELECT id, ?, ?, ?, ?, ? FROM cells WHERE cell = ?",
        (
            (
                run, str(record.get("verdict")), str(outcome_of(record)),
                str((record.get("known") or {}).get("id") or ""), answer(record) or "",
                record["cell"],
            )
            for record in records
        ),
    )  # fmt: skip
