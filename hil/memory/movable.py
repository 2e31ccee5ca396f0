# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages in ZONE_MOVABLE or in CMA: a long-term pin has to bring them elsewhere first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory import anonymous, hugetlb, proof, shmem, thp
from hil.memory.base import HUGE, PAGE, Buffer, fill, memory_class, round_up
from hil.system import numa
from hil.system.numa import preferring
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


def _node(bench: Bench) -> int:
    if bench.movable_node is None:
        raise NotApplicableError(
            "no ZONE_MOVABLE: boot with kernelcore=1G (or movablecore=), with numa=fake=2 for a "
            "node of its own, or online memory with online_movable"
        )
    return bench.movable_node


def _prove(buffer: Buffer, node: int) -> Buffer:
    zones = proof.zone_names(buffer.address, buffer.length)
    pages = buffer.pages
    proof.must(
        zones == {f"{node}/Movable": pages}, f"{pages} pages in {node}/Movable", zones or "none"
    )
    buffer.proof["zones"] = zones
    buffer.facts["zone"] = "Movable"
    return buffer


@memory_class("anonymous-movable", "private anonymous memory, single pages, in ZONE_MOVABLE")
def anonymous_movable(bench: Bench, length: int, direction: Direction) -> Buffer:
    node = _node(bench)
    with preferring(node):
        buffer = anonymous.filled(length)
    return _prove(buffer, node)


@memory_class("memfd-movable", "a shared mapping of a memfd, single pages, in ZONE_MOVABLE")
def memfd_movable(bench: Bench, length: int, direction: Direction) -> Buffer:
    node = _node(bench)
    length = round_up(length, PAGE)
    with preferring(node):
        buffer = shmem.shared(length, shmem.empty_memfd(length))
    return _prove(buffer, node)


@memory_class("thp-movable", "whole transparent huge pages in ZONE_MOVABLE")
def thp_movable(bench: Bench, length: int, direction: Direction) -> Buffer:
    node = _node(bench)
    with preferring(node):
        buffer = thp.huge_pages(bench, round_up(length, HUGE) // HUGE)
    fill(buffer.address, length)
    return _prove(buffer, node)


@memory_class("hugetlb-2m-movable", "a private mapping of 2 MiB hugetlb pages in ZONE_MOVABLE")
def hugetlb_2m_movable(bench: Bench, length: int, direction: Direction) -> Buffer:
    node = _node(bench)
    hugetlb.need(bench, HUGE, round_up(length, HUGE) // HUGE, node)
    buffer = hugetlb.mapped(bench, length, mm.MAP_PRIVATE)
    with preferring(node):
        fill(buffer.address, length)
    buffer.proof = hugetlb.prove(buffer.address, buffer.length, HUGE)
    return _prove(buffer, node)


_STEP = 16 * mm.MIB
_LEAVE = 256 * mm.MIB
"""Memory that is left to the rest of the machine."""


@memory_class("thp-cma", "part of a transparent huge page that lies in a CMA area", slow=True)
def thp_cma(bench: Bench, length: int, direction: Direction) -> Buffer:
    """The kernel gives movable memory out of CMA when that is half of what is free (rmqueue)."""
    areas = frames.cma_areas()
    if not areas:
        raise NotApplicableError("no CMA area: boot with cma=512M (CONFIG_CMA, CONFIG_DMA_CMA)")
    taken: list[Buffer] = []
    try:
        while numa.available() > _LEAVE:
            taken.append(thp.huge_pages(bench, _STEP // HUGE))
            for start in range(taken[-1].address, taken[-1].address + _STEP, HUGE):
                first = frames.frames(start, PAGE)[0]
                if first is not None and any(a <= first and first + 512 <= b for a, b in areas):
                    return _part_in_cma(taken.pop(), start, round_up(length, PAGE))
    finally:
        for buffer in taken:
            buffer.close()
    raise NotApplicableError("the kernel gave no huge page of its CMA areas: cma= more of the RAM")


def _part_in_cma(whole: Buffer, start: int, length: int) -> Buffer:
    fill(start, length)
    whole.address, whole.length = start, min(length, HUGE)
    whole.proof["pages_in_cma"] = frames.unsuitable(frames.entries(start, whole.length))
    return whole
