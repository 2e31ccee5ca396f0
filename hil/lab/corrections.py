# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock modules that cannot be tested for a mistake in their data: a copy without it.

A correction changes the value of one field of one variable, no instruction.  It is made at run time
from the kernel's own module, applies only where the field has the mistaken value, and every result
says that it was there.  What the stock module does is a cell of its own.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, modules
from hil.lab.kernels import Kernel
from hil.lab.modules import Own
from hil.system.release import Release, parse

_SIGNATURE = b"~Module signature appended~\n"
_SIGNATURE_HEAD = 12  # struct module_signature (include/linux/module_signature.h), the length last


class Correction(NamedTuple):
    """``new`` in place of ``old`` in the 32 bits at ``offset`` bytes into ``symbol``."""

    module: str
    since: Release
    """The first kernel whose structure has the field there."""
    symbol: str
    offset: int
    old: int
    new: int
    text: str
    """What is done, for reports."""
    reference: str


CORRECTIONS = (
    Correction(
        "habanalabs",
        parse("6.12"),
        # struct file_operations: owner, then fop_flags (include/linux/fs.h, 6.10 and later)
        "hl_fops", 8, 0x00, 0x20,
        "hl_fops.fop_flags = FOP_UNSIGNED_OFFSET, 4 bytes of data; the signature is stripped",
        "641bb4394f40 (6.12) made drm_open_helper ask for it; not fixed in 7.3",
    ),
)  # fmt: skip


class Corrected(NamedTuple):
    """A corrected copy of a stock module."""

    correction: Correction
    file: Path
    stock: Path

    @property
    def told(self) -> str:
        """For run.json and reports."""
        return f"{self.correction.module}: {self.correction.text}"


def of(kernel: Kernel, drivers: Iterable[str], own: Iterable[Own] = ()) -> list[Corrected]:
    """Copies of the modules that ``drivers`` come to and that need one, made and cached.

    ``own`` are the user's: they are taken as they are.
    """
    index = modules.index(kernel)
    names = set(modules.closure(kernel, drivers).names) - {module.name for module in own}
    release = parse(kernel.version)
    found = []
    for correction in CORRECTIONS:
        path = index.files.get(correction.module)
        if correction.module not in names or path is None or release < correction.since:
            continue
        stock = index.folder / path
        data = modules.read(stock)
        if _value(data, correction, stock) == correction.old:
            found.append(Corrected(correction, _made(data, correction, stock), stock))
    return found


def _made(data: bytes, correction: Correction, stock: Path) -> Path:
    key = hashlib.sha256(data + repr(correction).encode()).hexdigest()[:24]
    target = cache.root() / "modules" / f"{correction.module}-{key}.ko"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        with cache.lock("modules"), cache.full_disk_is_an_error(target.parent, "a module"):
            fresh.write_bytes(correct(data, correction, stock))
            fresh.rename(target)
    return target


def correct(data: bytes, correction: Correction, stock: Path | str = "module") -> bytes:
    """The bytes of a module with the correction, and without a signature: a wrong one is refused,
    a missing one only taints (kernel/module/signing.c)."""
    place = _place(data, correction, stock)
    copy = bytearray(data)
    struct.pack_into("<I", copy, place, correction.new)
    if copy.endswith(_SIGNATURE):
        end = len(copy) - len(_SIGNATURE)
        (length,) = struct.unpack_from(">I", copy, end - 4)
        del copy[end - _SIGNATURE_HEAD - length :]
    return bytes(copy)


def _value(data: bytes, correction: Correction, stock: Path) -> int:
    (value,) = struct.unpack_from("<I", data, _place(data, correction, stock))
    return int(value)


def _place(data: bytes, correction: Correction, stock: Path | str) -> int:
    """Where in the file the field is; HilError when it is not what the correction is made for."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import SymbolTableSection

    try:
        file = ELFFile(io.BytesIO(data))
        table = file.get_section_by_name(".symtab")
        symbols = (
            table.get_symbol_by_name(correction.symbol)
            if isinstance(table, SymbolTableSection)
            else None
        )
        if not symbols or len(symbols) != 1:
            raise _no_fit(correction, stock, f"it has no single {correction.symbol}")
        symbol = symbols[0]
        number, start, size = symbol["st_shndx"], symbol["st_value"], symbol["st_size"]
        if not isinstance(number, int) or correction.offset + 4 > size:
            raise _no_fit(correction, stock, f"{correction.symbol} has {size} bytes")
        begin = start + correction.offset
        for section in file.iter_sections():
            if isinstance(section, RelocationSection) and section["sh_info"] == number:
                places = (relocation["r_offset"] for relocation in section.iter_relocations())
                if any(begin - 8 < place < begin + 4 for place in places):
                    raise _no_fit(correction, stock, "the field is relocated")
        return int(file.get_section(number)["sh_offset"]) + int(begin)
    except ELFError as error:
        raise _no_fit(correction, stock, f"it can't be read: {error}") from error


def _no_fit(correction: Correction, stock: Path | str, why: str) -> HilError:
    return HilError(
        f"the correction of {correction.module} does not fit {stock}: {why}",
        "Give a module of your own (--module FILE.ko), or amend hil/lab/corrections.py.",
    )
