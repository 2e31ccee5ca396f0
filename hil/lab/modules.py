# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules on disk: what to load in which order, their bytes, what they were built for.

Rests on the files that depmod(8) writes and on the .modinfo section (include/linux/moduleinfo.h,
scripts/mod/modpost.c).
"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab.hosttools import ToolError, run
from hil.lab.kernels import Kernel


class Closure(NamedTuple):
    """What to load for some modules."""

    files: list[Path]  # in load order, each once
    built_in: list[str]  # asked for, and part of the kernel image
    absent: list[str]  # asked for, and not in this kernel
    names: list[str]  # of `files`, as /proc/modules spells them


def name_of(path: Path | str) -> str:
    """The name under which a module file is loaded: ``videobuf2-v4l2.ko.xz`` is videobuf2_v4l2."""
    return Path(path).name.partition(".ko")[0].replace("-", "_")


class Index:
    """The modules of one kernel, as depmod described them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}  # name -> path below the folder
        self.needs: dict[str, list[str]] = {}  # name -> paths, what to load last first
        try:
            lines = (folder / "modules.dep").read_text().splitlines()
        except OSError as error:
            raise HilError(
                f"no module index in {folder}: {error.strerror}", f"Run depmod for {folder.name}."
            ) from error
        for line in lines:
            path, _, rest = line.partition(":")
            self.files[name_of(path)] = path
            self.needs[name_of(path)] = rest.split()
        self.built_in = {name_of(line) for line in _lines(folder / "modules.builtin")}
        # NUL separated NAME.alias=ALIAS and the like, since 5.2
        text = "".join(_lines(folder / "modules.builtin.modinfo"))
        found = re.findall(r"[^\0]+?\.alias=([^\0*]+)\0", text)
        self._built_in_aliases = {alias.replace("-", "_") for alias in found}
        self._soft: dict[str, tuple[list[str], list[str]]] | None = None
        self._aliases: dict[str, list[str]] | None = None

    def soft(self, name: str) -> tuple[list[str], list[str]]:
        """Modules to load before and after ``name`` if they are to be had (modules.softdep)."""
        if self._soft is None:
            self._soft = {}
            for line in _lines(self.folder / "modules.softdep"):
                words = line.split()
                if len(words) < 3 or words[0] != "softdep":
                    continue
                before, after = self._soft.setdefault(words[1].replace("-", "_"), ([], []))
                into = before
                for word in words[2:]:
                    if word in ("pre:", "post:"):
                        into = before if word == "pre:" else after
                    else:
                        into.append(word)
        return self._soft.get(name, ([], []))

    def provider(self, alias: str) -> str | None:
        """The module to load for an alias such as ``crypto-crc32c``.

        Of several the generic one: it loads on every processor.
        """
        if self._aliases is None:
            self._aliases = {}
            for line in _lines(self.folder / "modules.alias"):
                words = line.split()
                if len(words) == 3 and words[0] == "alias" and not re.search(r"[*?\[]", words[1]):
                    key = words[1].replace("-", "_")
                    self._aliases.setdefault(key, []).append(words[2].replace("-", "_"))
        names = self._aliases.get(alias.replace("-", "_"), [])
        return next((n for n in names if n.endswith("_generic")), names[0] if names else None)

    def find(self, name: str) -> str | None:
        """The module that ``name`` means, by name or by alias; None when it is no module."""
        plain = name.replace("-", "_")
        if plain in self.files:
            return plain
        if self.is_built_in(name):
            return None
        found = self.provider(name)
        return found if found in self.files else None

    def is_built_in(self, name: str) -> bool:
        """Whether the kernel image itself has what ``name`` means, by name or by alias."""
        plain = name.replace("-", "_")
        return plain in self.built_in or plain in self._built_in_aliases


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


_INDEXES: dict[Path, tuple[int, Index]] = {}


def index(kernel: Kernel) -> Index:
    """The modules of a kernel; read once a process, and again when depmod has run."""
    try:
        stamp = (kernel.modules / "modules.dep").stat().st_mtime_ns
    except OSError:
        stamp = 0
    kept = _INDEXES.get(kernel.modules)
    if kept is None or kept[0] != stamp:
        kept = _INDEXES[kernel.modules] = (stamp, Index(kernel.modules))
    return kept[1]


def closure(kernel: Kernel, names: Iterable[str]) -> Closure:
    """Everything to load for ``names``, in load order, soft dependencies included.

    Names may be aliases (``crypto-crc32c``).  What is built in or absent is reported, not an error:
    the caller knows which ones it cannot do without.
    """
    modules = index(kernel)
    order: list[str] = []
    seen: set[str] = set()

    def add(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        before, after = modules.soft(name)
        needs = [name_of(path) for path in reversed(modules.needs[name])]
        for need in (*needs, *filter(None, map(modules.find, before))):
            add(need)
        order.append(name)
        for need in filter(None, map(modules.find, after)):
            add(need)

    built_in, absent = [], []
    for name in names:
        found = modules.find(name)
        if found is not None:
            add(found)
        elif modules.is_built_in(name):
            built_in.append(name)
        else:
            absent.append(name)
    files = [modules.folder / modules.files[name] for name in order]
    return Closure(files, built_in, absent, order)


def read(path: Path) -> bytes:
    """The module's ELF bytes, decompressed (.ko, .ko.xz, .ko.gz, .ko.zst)."""
    try:
        data = path.read_bytes()
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".gz":
            return gzip.decompress(data)
        if path.suffix == ".zst":
            return run(["zstd", "-d", "-c"], data=data)
    except (OSError, EOFError, lzma.LZMAError, ToolError) as error:
        raise HilError(f"cannot read the module {path}: {error}") from error
    return data


def modinfo(data: bytes, what: str = "module") -> dict[str, list[str]]:
    """The fields of the .modinfo section of a module's ELF bytes (little endian, 32 or 64 bits).

    HilError when the bytes are no such module.
    """
    try:
        section = _section(data, b".modinfo")
    except (struct.error, ValueError, IndexError) as error:
        raise HilError(f"{what} is truncated or no ELF file: {error}") from error
    if section is None:
        raise HilError(f"{what} is an ELF file without .modinfo: no kernel module", "Give a .ko.")
    fields: dict[str, list[str]] = {}
    for item in section.split(b"\0"):
        key, equals, value = item.decode(errors="replace").partition("=")
        if equals:
            fields.setdefault(key, []).append(value)
    return fields


def _section(data: bytes, wanted: bytes) -> bytes | None:
    if data[:4] != b"\x7fELF":
        raise ValueError("it does not begin with the ELF magic")
    wide = data[4] == 2
    table = struct.unpack_from("<Q" if wide else "<I", data, 0x28 if wide else 0x20)[0]
    size, count, names = struct.unpack_from("<HHH", data, 0x3A if wide else 0x2E)
    # sh_name, then sh_offset and sh_size (elf(5))
    form, at = ("<QQ", 0x18) if wide else ("<II", 0x10)

    def header(number: int) -> tuple[int, int, int]:
        place = table + number * size
        (name,) = struct.unpack_from("<I", data, place)
        offset, length = struct.unpack_from(form, data, place + at)
        return name, offset, length

    _, start, length = header(names)
    strings = data[start : start + length]
    for number in range(count):
        name, offset, length = header(number)
        if strings[name : strings.index(b"\0", name)] == wanted:
            if offset + length > len(data):
                raise ValueError("its sections go beyond its end")
            return data[offset : offset + length]
    return None


class Own(NamedTuple):
    """A developer's own module that fits a kernel."""

    name: str  # as /proc/modules spells it
    file: Path
    replaces: Path | None  # the stock module of that name
    needs: list[str]  # modules that it depends on


def vermagic(kernel: Kernel, like: str = "") -> str:
    """What modules of this kernel are built for; read off the module ``like``, or any."""
    modules = index(kernel)
    path = modules.files.get(like) or next(iter(modules.files.values()), None)
    if path is None:
        return ""
    file = modules.folder / path
    return modinfo(read(file), str(file)).get("vermagic", [""])[0]


def check_own(file: Path, kernel: Kernel) -> Own:
    """A ``--module FILE.ko`` that is to take the place of the stock module of its name.

    HilError when it was built for another kernel: the kernel itself would refuse it with "version
    magic" (kernel/module/main.c: check_modinfo).
    """
    if not file.is_file():
        raise HilError(f"no such module file: {file}", "The option is --module FILE.ko.")
    fields = modinfo(read(file), str(file))
    # the name field is there since 4.16
    name = fields.get("name", [name_of(file)])[0].replace("-", "_")
    found = fields.get("vermagic", [""])[0]
    expected = vermagic(kernel, name)
    if expected and found.split() != expected.split():
        raise HilError(
            f"the module {name} ({file}) is for another kernel: its vermagic is "
            f"{found.strip()!r}, and {kernel.release} expects {expected.strip()!r}",
            f"Build it against the headers or tree of {kernel.release}, or choose its kernel with "
            "--kernel.",
        )
    modules = index(kernel)
    stock = modules.files.get(name)
    if stock is None and name in modules.built_in:
        raise HilError(
            f"{name} is built into {kernel.release}: a module cannot take its place",
            "Choose a kernel that has it as a module.",
        )
    needs = [need for field in fields.get("depends", []) for need in field.split(",") if need]
    return Own(name, file, modules.folder / stock if stock else None, needs)


def check_all(files: Sequence[Path], kernel: Kernel) -> list[Own]:
    """`check_own` of each; HilError also when two have one name."""
    own: dict[str, Own] = {}
    for file in files:
        module = check_own(file, kernel)
        if module.name in own:
            raise HilError(f"{own[module.name].file} and {file} are both the module {module.name}")
        own[module.name] = module
    return list(own.values())
