# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in the page cache of ext4, XFS and Btrfs: single pages, large folios, PMD mappings.

Which sizes of folio a file system takes changed often: XFS reads into large folios since 5.18 and
writes into them since 6.6, ext4 does both since 6.16, Btrfs later still.  So no version is asked
here: each size is provoked and then looked at.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.base import (
    HUGE,
    PAGE,
    Buffer,
    buffer_of,
    fill,
    pattern,
    place,
    populate,
    register,
    round_up,
)
from hil.system import release
from hil.uapi import mm

if TYPE_CHECKING:
    from pathlib import Path

    from hil.cells import Direction
    from hil.memory.base import Maker
    from hil.memory.bench import Bench

_FOLIO = 64 * mm.KIB
_LARGE = "page cache in large folios"
# When the file systems of mainline had them by default.
_SINCE = "XFS has them since 5.18 for reads and 6.6 for writes, ext4 since 6.16, Btrfs after 6.18"


def nameless(directory: Path) -> int:
    """A new file without a name, open for reading and writing."""
    with contextlib.suppress(OSError):
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    path = directory / f"hil-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    path.unlink()
    return fd


def write(fd: int, length: int, piece: int) -> None:
    """Write the pattern in pieces: a buffered write makes no folio larger than itself."""
    data = pattern(length)
    for start in range(0, length, piece):
        os.pwrite(fd, data[start : start + piece], start)


def cached(fd: int, length: int) -> proof.Sight:
    """What the file's page cache consists of, seen through a mapping made for this."""
    address = place(length, mm.PROT_READ, mm.MAP_SHARED, fd)
    try:
        populate(address, length)
        return proof.Sight(address, length)
    finally:
        mm.munmap(address, length)


def single_file(directory: Path, length: int) -> int:
    """An open file whose ``length`` bytes are cached in single pages, proven."""
    fd = nameless(directory)
    try:
        write(fd, length, PAGE)
        sight = cached(fd, length)
        holds = sight.whole and not sight.some & (proof.COMPOUND | proof.ANON)
        proof.must(holds, "page cache in single pages", sight.summary())
    except BaseException:
        os.close(fd)
        raise
    return fd


def large_file(directory: Path, length: int, piece: int, *, reads: bool) -> int:
    """An open file whose ``length`` bytes (a multiple of ``piece``) are cached in large folios.

    Two tries: a write of ``piece`` bytes at a time; then, where reads may do better, a read into an
    empty cache through a mapping with MADV_HUGEPAGE (mm/filemap.c do_sync_mmap_readahead, 5.18).
    """
    fd = nameless(directory)
    tried = f"writes of {piece >> 10} KiB"
    try:
        write(fd, length, piece)
        sight = cached(fd, length)
        if not (sight.whole and sight.compound) and (reads or sight.some & proof.COMPOUND):
            _reread(fd, length)
            sight = cached(fd, length)
            tried += " and a read with MADV_HUGEPAGE"
        wanted = f"{_LARGE} by {tried} ({_SINCE})"
        proof.must(sight.whole and sight.compound, wanted, sight.summary())
    except BaseException:
        os.close(fd)
        raise
    return fd


def _reread(fd: int, length: int) -> None:
    """Empty the cache and have the file read in again, in folios of 2 MiB if that can be."""
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    mapped = round_up(length, HUGE)
    address = place(mapped, mm.PROT_READ, mm.MAP_SHARED, fd)
    try:
        with contextlib.suppress(OSError):  # EINVAL without transparent huge pages
            mm.madvise(address, mapped, mm.MADV_HUGEPAGE)
        for start in range(0, length, HUGE):
            ctypes.string_at(address + start, 1)
    finally:
        mm.munmap(address, mapped)


def _of(fd: int, length: int, prot: int, flags: int, offset: int = 0) -> Buffer:
    address = place(length, prot, flags, fd, offset=offset)
    buffer = buffer_of(address, length)
    buffer.of_file(fd)
    return buffer


def prove_single(address: int, length: int) -> dict[str, object]:
    return proof.present(
        address,
        length,
        "single page cache pages",
        has_not=proof.COMPOUND | proof.ANON | proof.SWAPBACKED,
    )


def _private_untouched(directory: Path, length: int) -> Buffer:
    fd = single_file(directory, length)
    buffer = _of(fd, length, mm.PROT_RW, mm.MAP_PRIVATE)
    buffer.proof = {**proof.absent(buffer.address, length), "cached": "single pages"}
    return buffer


def _private_cowed(directory: Path, length: int) -> Buffer:
    buffer = _private_untouched(directory, length)
    fill(buffer.address, length)
    buffer.proof = proof.present(
        buffer.address, length, "private copies", has=proof.ANON, has_not=proof.COMPOUND
    )
    return buffer


def _shared(directory: Path, length: int) -> Buffer:
    buffer = _of(single_file(directory, length), length, mm.PROT_RW, mm.MAP_SHARED)
    fill(buffer.address, length)
    buffer.proof = prove_single(buffer.address, length)
    return buffer


def _readonly(flags: int) -> Callable[[Path, int], Buffer]:
    def make(directory: Path, length: int) -> Buffer:
        buffer = _of(single_file(directory, length), length, mm.PROT_READ, flags)
        populate(buffer.address, length)
        buffer.proof = prove_single(buffer.address, length)
        perms = proof.smaps(buffer.address)["Perms"]
        wanted = "r--s" if flags == mm.MAP_SHARED else "r--p"
        proof.must(perms == wanted, f"a mapping {wanted}", perms)
        buffer.proof["Perms"] = perms
        return buffer

    return make


def _reads_large(directory: Path) -> bool:
    """Whether a read may give large folios where writes do not: XFS before 6.6."""
    return release.running() >= (5, 18) and mm.file_system(directory) == mm.XFS_SUPER_MAGIC


def _large(directory: Path, length: int, flags: int) -> Buffer:
    """The file from 64 KiB on: an address that no PMD fits, whatever the folios' size."""
    length = round_up(length, _FOLIO)
    fd = large_file(directory, _FOLIO + length, _FOLIO, reads=_reads_large(directory))
    return _of(fd, length, mm.PROT_RW, flags, _FOLIO)


def _private_untouched_large(directory: Path, length: int) -> Buffer:
    buffer = _large(directory, length, mm.MAP_PRIVATE)
    buffer.proof = {**proof.absent(buffer.address, buffer.length), "cached": "large folios"}
    return buffer


def _shared_large(directory: Path, length: int) -> Buffer:
    buffer = _large(directory, length, mm.MAP_SHARED)
    fill(buffer.address, buffer.length)
    buffer.proof = proof.large(buffer.address, buffer.length, _LARGE)
    mapped = proof.smaps(buffer.address).get("FilePmdMapped", 0)
    proof.must(mapped == 0, "page cache mapped by PTEs", f"{mapped} bytes mapped by PMDs")
    return buffer


def _shared_pmd(directory: Path, length: int) -> Buffer:
    """Page cache in folios of 2 MiB, mapped shared and writable by PMDs."""
    length = round_up(length, HUGE)
    fd = large_file(directory, length, HUGE, reads=_reads_large(directory))
    numbers = cached(fd, length).frames
    folios = sum(1 for word in proof.flag_words(sorted(numbers)) if word & proof.HEAD)
    try:
        proof.must(
            folios * HUGE == length,
            "page cache in folios of 2 MiB",
            f"{folios} folios for {length >> 10} KiB (Btrfs makes them of 256 KiB at most)",
        )
    except NotApplicableError:
        os.close(fd)
        raise
    wanted = "page cache mapped by PMDs"
    # A write fault first: a PMD that a read fault has made is split by the first write.
    for touch in (_write_each, _read_each):
        buffer = buffer_of(place(length, mm.PROT_RW, mm.MAP_SHARED, fd), length)
        with contextlib.suppress(OSError):
            mm.madvise(buffer.address, length, mm.MADV_HUGEPAGE)
        touch(buffer.address, length)
        with contextlib.suppress(NotApplicableError):
            buffer.proof = proof.huge_mapped(buffer.address, length, "FilePmdMapped", wanted)
            buffer.of_file(fd)
            return buffer
        buffer.close()
    address = place(length, mm.PROT_RW, mm.MAP_SHARED, fd)
    buffer = buffer_of(address, length)
    buffer.of_file(fd)
    try:
        mm.madvise(address, length, mm.MADV_COLLAPSE)
        _read_each(address, length)
        buffer.proof = proof.huge_mapped(address, length, "FilePmdMapped", wanted)
    except OSError as error:
        buffer.close()
        raise NotApplicableError(
            f"asked the kernel for {wanted}: 2 MiB folios were not mapped whole by write or read "
            f"faults, MADV_COLLAPSE: {error.strerror}"
        ) from error
    return buffer


def _write_each(address: int, length: int) -> None:
    for start in range(0, length, HUGE):
        ctypes.memset(address + start, 0, 1)


def _read_each(address: int, length: int) -> None:
    for start in range(0, length, HUGE):
        ctypes.string_at(address + start, 1)


_VARIANTS: tuple[tuple[str, str, Callable[[Path, int], Buffer]], ...] = (
    (
        "private-untouched",
        "private mapping, cached in single pages, not touched",
        _private_untouched,
    ),
    ("private-cowed", "private mapping, every page written and so copied", _private_cowed),
    ("shared", "shared writable mapping, single pages", _shared),
    ("private-readonly", "private read-only mapping, single pages", _readonly(mm.MAP_PRIVATE)),
    ("shared-readonly", "shared read-only mapping, single pages", _readonly(mm.MAP_SHARED)),
    (
        "private-untouched-large-folio",
        "private mapping, cached in large folios, not touched",
        _private_untouched_large,
    ),
    ("shared-large-folio", "shared writable mapping, large folios mapped by PTEs", _shared_large),
    ("shared-pmd", "shared writable mapping, 2 MiB folios mapped by PMDs", _shared_pmd),
)


def _maker(kind: str, make: Callable[[Path, int], Buffer]) -> Maker:
    def maker(bench: Bench, length: int, direction: Direction) -> Buffer:
        return make(bench.directory(kind), round_up(length, PAGE))

    return maker


for _kind in ("ext4", "xfs", "btrfs"):
    for _name, _summary, _make in _VARIANTS:
        register(f"{_kind}-{_name}", f"{_kind} file, {_summary}", _maker(_kind, _make), "pagecache")
