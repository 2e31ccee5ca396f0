# SPDX-License-Identifier: GPL-2.0-or-later
"""Which part of memory.c makes a memory class, with which macros; and for which there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """A part of memory.c and the macros that it asks for."""

    part: str
    macros: Mapping[str, str] = {}


_SHARED, _PRIVATE = "MAP_SHARED", "MAP_PRIVATE"
_RW = "PROT_READ | PROT_WRITE"
_2M, _1G = "(2UL << 20)", "(1UL << 30)"


def _huge(part: str, mapping: str, size: str = _2M, memfd: str = "0") -> Recipe:
    return Recipe(part, {"HUGE_SIZE": size, "MAPPING": mapping, "IN_MEMFD": memfd})


def _hole(at: int, by: int) -> Recipe:
    return Recipe("hole", {"HOLE": str(at), "HOLE_BY": str(by)})


def _file(kind: str, mapping: str, touch: int, *, protection: str = _RW, dax: int = 0) -> Recipe:
    macros = {"FILE_SYSTEM": f'"{kind}"', "DAX": str(dax), "MAPPING": mapping,
              "PROTECTION": protection, "TOUCH": str(touch)}  # fmt: skip
    return Recipe("file-mapping", macros)


def _beyond(kind: str, mapping: str) -> Recipe:
    of_file = {"FILE_SYSTEM": f'"{kind}"'}
    return Recipe("beyond-eof", {"IN_MEMFD": "0", "MAPPING": mapping, **of_file})


_RECIPES: dict[str, Recipe] = {
    **{name: Recipe(name) for name in (
        "anonymous", "anonymous-untouched", "anonymous-zero-page", "anonymous-unaligned",
        "two-mappings",
        "anonymous-movable", "thp", "thp-part", "thp-two", "thp-movable", "shared-anonymous",
        "memfd-movable", "sysv", "memfd-future-write-seal", "memfd-sealed-private", "memfd-secret",
        "below-stack", "zero-length", "too-short", "swapped-out", "cow-shared-with-child",
        "over-memlock", "remapped-same-address", "resized-same-address", "udmabuf",
    )},
    "hugetlb-2m-private": _huge("hugetlb", _PRIVATE),
    "hugetlb-2m-shared": _huge("hugetlb", _SHARED),
    "hugetlb-2m-memfd": _huge("hugetlb", _SHARED, memfd="1"),
    "hugetlb-2m-untouched": _huge("hugetlb-untouched", _PRIVATE),
    "hugetlb-2m-readonly": _huge("hugetlb-readonly", _PRIVATE),
    "hugetlb-2m-movable": _huge("hugetlb-movable", _PRIVATE),
    "hugetlb-64k-private": _huge("hugetlb", _PRIVATE, "(64UL << 10)"),
    "hugetlb-32m-private": _huge("hugetlb", _PRIVATE, "(32UL << 20)"),
    "hugetlb-1g-private": _huge("hugetlb-1g", _PRIVATE, _1G),
    "hugetlb-1g-shared": _huge("hugetlb-1g", _SHARED, _1G),
    "hugetlb-1g-memfd": _huge("hugetlb-1g", _SHARED, _1G, memfd="1"),
    "memfd": Recipe("memfd-shared"),
    "tmpfs": Recipe("tmpfs", {"FILE_SYSTEM": '"tmpfs"'}),
    "shared-anonymous-thp": Recipe("shmem-thp", {"IN_MEMFD": "0"}),
    "memfd-thp": Recipe("shmem-thp", {"IN_MEMFD": "1"}),
    "memfd-readonly-shared": Recipe("memfd-readonly", {"SEALS": "0"}),
    "memfd-write-sealed-shared": Recipe("memfd-readonly", {"SEALS": "F_SEAL_WRITE"}),
    "readonly-private": Recipe("protected", {"MAPPING": _PRIVATE, "PROTECTION": "PROT_READ"}),
    "readonly-shared": Recipe("protected", {"MAPPING": _SHARED, "PROTECTION": "PROT_READ"}),
    "prot-none": Recipe("protected", {"MAPPING": _PRIVATE, "PROTECTION": "PROT_NONE"}),
    "thp-prot-none": Recipe("thp-prot-none"),
    "prot-none-shared": Recipe("protected", {"MAPPING": _SHARED, "PROTECTION": "PROT_NONE"}),
    "prot-none-middle": _hole(1, 1),
    "unmapped-first": _hole(0, 0),
    "unmapped-middle": _hole(1, 0),
    "unmapped-last": _hole(2, 0),
    "guard-pages": _hole(1, 2),
    "memfd-beyond-eof": Recipe(
        "beyond-eof", {"IN_MEMFD": "1", "MAPPING": _SHARED, "FILE_SYSTEM": '"tmpfs"'}
    ),
    "ext4-beyond-eof": _beyond("ext4", _SHARED),
    "ext4-private-beyond-eof": _beyond("ext4", _PRIVATE),
    "kernel-address": Recipe("pointer", {"POINTER": "0xffffffc000000000UL"}),
    "address-wrap": Recipe("pointer", {"POINTER": "-PAGE"}),
    "null-pointer": Recipe("pointer", {"POINTER": "0"}),
}  # fmt: skip
for _kind in ("ext4", "xfs", "btrfs"):
    _RECIPES |= {
        f"{_kind}-private-untouched": _file(_kind, _PRIVATE, 0),
        f"{_kind}-private-cowed": _file(_kind, _PRIVATE, 2),
        f"{_kind}-shared": _file(_kind, _SHARED, 2),
        f"{_kind}-private-readonly": _file(_kind, _PRIVATE, 1, protection="PROT_READ"),
        f"{_kind}-shared-readonly": _file(_kind, _SHARED, 1, protection="PROT_READ"),
    }
for _kind in ("ext4", "xfs"):
    _RECIPES |= {
        f"fsdax-{_kind}-shared": _file(_kind, _SHARED, 2, dax=1),
        f"fsdax-{_kind}-private": _file(_kind, _PRIVATE, 1, dax=1),
        f"fsdax-{_kind}-private-cowed": _file(_kind, _PRIVATE, 2, dax=1),
    }

_DEVICES: dict[str, tuple[str, str, dict[str, str]]] = {
    # memory class: key of the proof that names the device, part, macros
    "pci-bar": ("resource", "device-mapping", {"ALIGNMENT": "PAGE", "TOUCH": "0"}),
    "v4l2-mmap-buffer": ("node", "v4l2-mmap-buffer", {}),
    "device-dax": ("node", "device-mapping", {"ALIGNMENT": "HUGE", "TOUCH": "1"}),
}

_WITHOUT = {
    "thp-cma": "memory of a CMA area comes only when half of what is free lies in one",
    "ksm": "ksmd has to be driven, and merges when it likes",
    "anonymous-apart": "frames have to be chosen",
    "userfaultfd-handler": "it needs a handler in a thread of its own",
    "userfaultfd-user-mode-only": "it needs a userfaultfd handler",
    "userfaultfd-sigbus": "it needs a userfaultfd",
}


def recipe(record: Mapping[str, Any]) -> Recipe | str:
    """How the record's memory class is made in C; text where it is not, and why."""
    memory = str(record["memory"])
    if memory in _RECIPES:
        return _RECIPES[memory]
    proof = ((record.get("evidence") or {}).get("buffer") or {}).get("proof") or {}
    if memory in _DEVICES:
        key, part, macros = _DEVICES[memory]
        if device := proof.get(key):
            return Recipe(part, {**macros, "DEVICE": _quoted(str(device))})
        return f"the record does not name the device that {memory} was mapped from"
    if memory == "drm-dumb-buffer" and str(proof.get("Name", "")).startswith("/dev/"):
        return Recipe(memory, {"DEVICE": _quoted(str(proof["Name"]).split()[0])})
    why = _WITHOUT.get(memory)
    if why is None and ("large-folio" in memory or memory.endswith(("-pmd", "-thp"))):
        why = "the kernel has to be brought to make folios of that size"
    return f"{memory} is not made in C: {why or 'nobody has written it yet'}"


def shared(memory: str) -> bool:
    """Whether a recipe's mapping is MAP_SHARED."""
    found = _RECIPES.get(memory, Recipe(""))
    if "MAPPING" in found.macros:
        return found.macros["MAPPING"] == _SHARED
    return memory.startswith(("shared", "memfd", "sysv", "tmpfs")) and "private" not in memory


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
