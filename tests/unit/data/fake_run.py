# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes run folders that look like real ones, of any size, always the same for the same size.

``python tests/unit/data/fake_run.py FOLDER [CELLS]`` writes run.json and journal.jsonl.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

FILE_KINDS = (
    "private-untouched",
    "private-cowed",
    "shared",
    "private-readonly",
    "shared-readonly",
    "private-untouched-large-folio",
    "shared-large-folio",
    "shared-pmd",
)
FSDAX_KINDS = ("shared", "private", "private-cowed", "second-vma")
FAMILIES = {
    "anonymous": "anonymous anonymous-untouched anonymous-zero-page anonymous-large-folio "
    "anonymous-unaligned thp thp-part thp-two",
    "hugetlb": "hugetlb-2m-private hugetlb-2m-shared hugetlb-2m-memfd hugetlb-2m-untouched "
    "hugetlb-2m-readonly hugetlb-1g-private hugetlb-1g-shared hugetlb-1g-memfd",
    "shmem": "shared-anonymous shared-anonymous-thp memfd memfd-large-folio memfd-thp tmpfs "
    "tmpfs-thp sysv memfd-future-write-seal memfd-readonly-shared memfd-write-sealed-shared "
    "memfd-sealed-private memfd-secret",
    "file": " ".join(f"{fs}-{kind}" for fs in ("ext4", "xfs", "btrfs") for kind in FILE_KINDS),
    "fsdax": " ".join(f"fsdax-{fs}-{kind}" for fs in ("ext4", "xfs") for kind in FSDAX_KINDS)
    + " device-dax",
    "pfnmap": "pci-bar v4l2-mmap-buffer udmabuf drm-dumb-buffer",
    "protection": "readonly-private readonly-shared prot-none prot-none-shared prot-none-middle",
    "holes": "unmapped-first unmapped-middle unmapped-last memfd-beyond-eof ext4-beyond-eof "
    "ext4-private-beyond-eof guard-pages below-stack",
    "userfaultfd": "userfaultfd-handler userfaultfd-user-mode-only userfaultfd-sigbus",
    "placement": "anonymous-movable memfd-movable thp-movable hugetlb-2m-movable ksm swapped-out "
    "cow-shared-with-child over-memlock",
    "arguments": "kernel-address address-wrap null-pointer zero-length remapped-same-address",
}
CLASSES = sum(len(memories.split()) for memories in FAMILIES.values())
REFUSED = {
    "memfd-readonly-shared": "EFAULT",
    "memfd-write-sealed-shared": "EFAULT",
    "memfd-secret": "EFAULT",
    "device-dax": None,
    "readonly-private": "EFAULT",
    "readonly-shared": "EFAULT",
    "hugetlb-2m-readonly": "EFAULT",
    "null-pointer": "EINVAL",
    "zero-length": "EINVAL",
    "address-wrap": "EOVERFLOW",
    "kernel-address": "EFAULT",
    "below-stack": "EFAULT",
    "guard-pages": "EFAULT",
    "userfaultfd-user-mode-only": "EFAULT",
    "userfaultfd-sigbus": "EFAULT",
    "pci-bar": "EFAULT",
    "udmabuf": "EFAULT",
    "drm-dumb-buffer": "EFAULT",
}
NODES = (
    ("video0", "capture", "vb2-vmalloc"),
    ("video1", "output", "vb2-vmalloc"),
    ("video2-mplane", "capture", "vb2-vmalloc"),
    ("video3-mplane", "output", "vb2-vmalloc"),
    ("vbi0", "capture", "vb2-vmalloc"),
    ("vbi1-sliced", "output", "vb2-vmalloc"),
    ("swradio0", "capture", "vb2-vmalloc"),
    ("meta0", "capture", "vb2-vmalloc"),
    ("meta1", "output", "vb2-vmalloc"),
    ("touch0", "capture", "vb2-vmalloc"),
)
STACK = """[<0>] folio_wait_bit_common+0x13d/0x350
[<0>] migrate_pages_batch+0x4f5/0xb80
[<0>] __gup_longterm_locked+0x2a1/0xa50
[<0>] pin_user_pages_fast+0x6b/0xa0
[<0>] get_vaddr_frames+0x70/0xc0 [videobuf2_memops]
[<0>] vb2_vmalloc_get_userptr+0x8c/0x150 [videobuf2_vmalloc]"""
WARNING = [
    "------------[ cut here ]------------",
    "WARNING: CPU: 1 PID: 812 at mm/gup.c:77 try_grab_folio+0x1a2/0x1c0",
    "Modules linked in: vivid videobuf2_vmalloc videobuf2_memops </script><b>&'\"",
]
BAD = {
    # index of the bad cell -> verdict, its reason
    17: ("leak", "113 pins are live after REQBUFS(0) and close; none may be"),
    101: ("wrongly-accepted", "pinned; must be refused with EFAULT"),
    203: ("wrongly-refused", "refused with ENOMEM; must be pinned"),
    305: ("kernel-warning", "the kernel warned: WARNING: CPU: 1 PID: 812 at mm/gup.c:77"),
    407: ("hang", "VIDIOC_QBUF did not come back within 10 s"),
    409: ("wrong-errno", "refused with ENOMEM; must be EFAULT"),
    411: ("crash", "the guest went down: Kernel panic - not syncing: Fatal exception"),
    513: ("no-rule", "no rule for vb2-dma-sg, touch queue"),
    515: ("harness-error", "OSError(28, 'No space left on device') while making the buffer"),
}
KNOWN = {
    "id": "movable-pinned-in-place",
    "reference": "https://lore.kernel.org/linux-media/20210217-longterm@example.org/",
    "because": "vb2 did not ask for FOLL_LONGTERM before 5.12: pages stay in ZONE_MOVABLE",
}


def pinners(count: int) -> list[tuple[str, str]]:
    """(name, direction) of `count` pinners; two a node: QBUF and PREPARE_BUF."""
    names = [
        (f"v4l2-vivid-{node}{call}", direction)
        for node, direction, _ in NODES
        for call in ("", "-prepare")
    ]
    return names[:count]


def record(
    index: int, pinner: str, direction: str, memory: str, *, family: str, rng: random.Random
) -> dict[str, Any]:
    """One journal record as a session on vivid would write it."""
    accept = memory not in REFUSED and "fsdax" not in memory and "unmapped" not in memory
    accept = accept and "prot-none" not in memory and "eof" not in memory
    errno = None if accept else (REFUSED.get(memory) or "EFAULT")
    verdict, reason, known = "ok", "pinned 113 pages and gave back 113", None
    if errno:
        reason = f"refused with {errno}, as it must be"
    if memory in ("hugetlb-1g-shared", "drm-dumb-buffer") or "btrfs-shared-pmd" in memory:
        verdict, reason = "not-applicable", f"no {family} of this kind here; see `hil doctor`"
    elif memory.endswith("-movable") and memory != "thp-movable":
        verdict, known = "stayed", KNOWN
        reason = "113 of 113 pages stayed in ZONE_MOVABLE of node 1; must be moved out first"
    elif memory == "thp-movable":
        known = KNOWN if index % 7 == 0 else None
    if index in BAD:
        (verdict, reason), known = BAD[index], None
        errno = "ENOMEM" if "ENOMEM" in reason else None
    frame = rng.randrange(1 << 18, 1 << 20)
    page = {"frame": frame, "zone": "Normal", "node": 0, "flags": ["anon", "lru", "swapbacked"]}
    zero = {"acquired": 0, "released": 0, "live": 0}
    held = zero if errno else {"acquired": 113, "released": 0, "live": 113}
    after = {**held, "released": held["acquired"], "live": 0}
    if verdict == "leak":
        after = held
    frames = {"first": page, "last": {**page, "frame": frame + 112}, "zones": {"0/Normal": 113}}
    evidence: dict[str, Any] = {
        "stage": "done",
        "setup": {"not_applicable": reason} if verdict == "not-applicable" else None,
        "call": "VIDIOC_QBUF",
        "errno": errno,
        "buffer": {
            "address": hex(0x7F00_0000_0000 + frame * 4096),
            "length": 462848,
            "pages": 113,
            "companion_pages": 0,
            "proof": {"first": page["flags"], "last": page["flags"]},
            "facts": {"zone": "Movable"} if "movable" in memory else {},
        },
        "pins": {"before": zero, "during": held, "after": after},
        "frames": {"before": frames, "during": None if errno else frames, "after": frames},
        "moved_pages": 0,
        "unsuitable_pages": 113 if verdict == "stayed" else 0,
        "second_pin": None,
        "hugepages": {
            stage: {"HugePages_Free": 8, "HugePages_Rsvd": 0, "HugePages_Surp": 0}
            for stage in ("before", "during", "after")
        },
        "data": None,
        "log": WARNING if verdict == "kernel-warning" else [],
        "taint": {"before": 0, "after": 512 if verdict == "kernel-warning" else 0},
        "seconds": {
            "wall": round(rng.uniform(0.01, 0.2), 4),
            "system": round(rng.uniform(0.001, 0.02), 4),
            "pin": round(rng.uniform(0.0001, 0.003), 6),
        },
        "child": {
            "signal": None,
            "exit": None if verdict == "hang" else 0,
            "stack": STACK if verdict == "hang" else None,
            "tasks": None,
            "killed": verdict == "hang",
        },
    }
    if verdict == "not-applicable":
        evidence = {"stage": "make", "setup": {"not_applicable": reason}, "call": "VIDIOC_QBUF"}
    rule = None if verdict == "no-rule" else f"vb2-vmalloc/{memory}"
    return {
        "cell": f"{pinner}/{memory}/{direction}/steady",
        "pinner": pinner,
        "driver": "vivid",
        "memory": memory,
        "memory_family": family,
        "direction": direction,
        "condition": "steady",
        "kernel": "6.12.107",
        "expected": {"accept": accept, "errnos": [] if accept else [errno or "EFAULT"]}
        if rule
        else None,
        "rule": rule,
        "source": {
            "because": "FOLL_LONGTERM pins what may be held for long",
            "source": "mm/gup.c:check_vma_flags",
            "commit": "8ac268436e6d",
        }
        if rule
        else None,
        "verdict": verdict,
        "reason": reason,
        "known": known,
        "evidence": evidence,
        "seconds": evidence.get("seconds", {}).get("wall", 0.004),
    }


def records(cells: int = 900) -> list[dict[str, Any]]:
    """`cells` records, pinner by pinner; beyond 20 pinners the nodes repeat with other drivers."""
    rng = random.Random(7)
    made: list[dict[str, Any]] = []
    lap = 0
    while len(made) < cells:
        for pinner, direction in pinners(20):
            name = pinner if not lap else pinner.replace("vivid", f"cam{lap}")
            for family, memories in FAMILIES.items():
                for memory in memories.split():
                    made.append(record(len(made), name, direction, memory, family=family, rng=rng))
        lap += 1
    return made[:cells]


def meta(cells: int, status: str = "complete") -> dict[str, Any]:
    """run.json of such a run."""
    return {
        "run": "20261122-101500-virtual-x86-6.12.107",
        "board": "virtual-x86",
        "kernel": "6.12.107+deb13-amd64",
        "kernel_spec": "debian:6.12",
        "uname": "Linux guest 6.12.107+deb13-amd64 #1 SMP Debian 6.12.107-1 x86_64",
        "command": "hil run --kernel debian:6.12",
        "versions": {"hil": "0.1.0", "qemu": "7.2.22", "python": "3.11.2"},
        "pinners": [
            {
                "name": name,
                "driver": "vivid",
                "node": f"/dev/{name.split('-')[2]}",
                "bus": "platform:vivid-000",
                "allocator": "vmalloc",
                "family": "vb2-vmalloc",
            }
            for name, _ in pinners(20)
        ],
        "config": {"CONFIG_TRANSPARENT_HUGEPAGE": "y", "CONFIG_USERFAULTFD": "y"},
        "started": "2026-11-22T10:15:00Z",
        "finished": "2026-11-22T10:15:48Z",
        "cells": cells,
        "status": status,
    }


def write(folder: Path, lines: list[dict[str, Any]], run: dict[str, Any]) -> None:
    """Write a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run, indent=1) + "\n")
    with (folder / "journal.jsonl").open("w") as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


def small() -> list[dict[str, Any]]:
    """Two nodes, a few classes, and a cell of every verdict."""
    rng = random.Random(3)
    families = {"anonymous": ("anonymous", "thp"), "shmem": ("memfd", "memfd-secret", "sysv")}
    made = [
        record(1000 + number, pinner, direction, memory, family=family, rng=rng)
        for number, (pinner, direction) in enumerate(pinners(4))
        for family, memories in families.items()
        for memory in memories
    ]
    verdicts = (
        "wrongly-accepted wrongly-refused wrong-errno leak miscounted moved stayed corrupt stale "
        "hang crash kernel-warning no-rule harness-error not-applicable"
    )
    for entry, verdict in zip(made, verdicts.split(), strict=False):
        entry.update(verdict=verdict, reason=f"made up, to show {verdict}")
    made[-1]["known"] = made[-2]["known"] = made[-3]["known"] = KNOWN
    made[-2]["verdict"], made[-3]["verdict"] = "stayed", "not-held"
    return made


HOSTILE = (
    "</script><!--<b>[bold]{{ 7 * 7 }}{% raw %}&amp;"
    "\u2028\u2029\x1b[31m\x00\x9b\ud800\uffff]]>\"'\\"
)


def hostile() -> list[dict[str, Any]]:
    """Text that breaks out of HTML, XML, templates, markup or the terminal where it is let."""
    rng = random.Random(5)
    made = [
        record(1000 + number, f"v4l2-x-video{number}", "capture", "memfd", family="<i>", rng=rng)
        for number in range(4)
    ]
    for entry, verdict in zip(
        made, ("leak", "not-applicable", "harness-error", "stayed"), strict=True
    ):
        entry.update(verdict=verdict, reason=HOSTILE, driver=HOSTILE)
        entry["evidence"]["log"] = [HOSTILE]
    made[3]["known"] = {"id": HOSTILE, "reference": "javascript:alert(1)", "because": HOSTILE}
    return made


def recorded() -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """The run folders kept in ``runs/`` beside this file."""
    whole = small()
    return {
        "every-verdict": (whole, meta(len(whole))),
        "interrupted": (whole[14:17], meta(len(whole), "interrupted")),
        "hostile": (hostile(), {**meta(4), "board": HOSTILE, "config": {HOSTILE: HOSTILE}}),
        "all-well": (whole[15:17], {**meta(2), "pinners": []}),
    }


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 900
    write(Path(sys.argv[1]), records(count), meta(count))
