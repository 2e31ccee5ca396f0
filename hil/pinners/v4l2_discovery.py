# SPDX-License-Identifier: GPL-2.0-or-later
"""Which V4L2 queues of this machine take user pointers, and what maps their pages.

Every node of the subsystem video4linux is opened once and each queue that it announces is asked.
All that a cell needs later is found here, so that a cell only opens, requests and pins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from errno import EBUSY, EINVAL, ENOTTY
from pathlib import Path
from typing import Any, NamedTuple

from hil.cells import Direction
from hil.errors import HilError
from hil.pinners import v4l2_formats, vivid
from hil.pinners.base import Node, Pinner, Survey, selected
from hil.pinners.v4l2 import Queue, V4l2Pinner
from hil.pinners.v4l2_allocator import allocator_of
from hil.pinners.v4l2_data import DataPath, still
from hil.pinners.v4l2_m2m import SIDES, AsItIsPinner, M2mPinner, sized
from hil.pinners.v4l2_picture import Pictured, source_of
from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_controls as controls


class Kind(NamedTuple):
    """A kind of queue: how it shows in a pinner's name, its buffer types, who announces it."""

    suffix: str
    capture: tuple[int, int]
    """Buffer type, and the capability bits of which one announces it."""
    output: tuple[int, int]
    slow: bool


# Non-video queues are slow: they repeat what the video queues tell, through other entry points.
KINDS = (
    Kind(
        "",
        (uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE, uapi.V4L2_CAP_VIDEO_CAPTURE | uapi.V4L2_CAP_VIDEO_M2M),
        (uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT, uapi.V4L2_CAP_VIDEO_OUTPUT | uapi.V4L2_CAP_VIDEO_M2M),
        False,
    ),
    Kind(
        "-mplane",
        (
            uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE,
            uapi.V4L2_CAP_VIDEO_CAPTURE_MPLANE | uapi.V4L2_CAP_VIDEO_M2M_MPLANE,
        ),
        (
            uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE,
            uapi.V4L2_CAP_VIDEO_OUTPUT_MPLANE | uapi.V4L2_CAP_VIDEO_M2M_MPLANE,
        ),
        False,
    ),
    Kind(
        "",
        (uapi.V4L2_BUF_TYPE_VBI_CAPTURE, uapi.V4L2_CAP_VBI_CAPTURE),
        (uapi.V4L2_BUF_TYPE_VBI_OUTPUT, uapi.V4L2_CAP_VBI_OUTPUT),
        True,
    ),
    Kind(
        "-sliced",
        (uapi.V4L2_BUF_TYPE_SLICED_VBI_CAPTURE, uapi.V4L2_CAP_SLICED_VBI_CAPTURE),
        (uapi.V4L2_BUF_TYPE_SLICED_VBI_OUTPUT, uapi.V4L2_CAP_SLICED_VBI_OUTPUT),
        True,
    ),
    Kind(
        "",
        (uapi.V4L2_BUF_TYPE_SDR_CAPTURE, uapi.V4L2_CAP_SDR_CAPTURE),
        (uapi.V4L2_BUF_TYPE_SDR_OUTPUT, uapi.V4L2_CAP_SDR_OUTPUT),
        True,
    ),
    Kind(
        "-meta",
        (uapi.V4L2_BUF_TYPE_META_CAPTURE, uapi.V4L2_CAP_META_CAPTURE),
        (uapi.V4L2_BUF_TYPE_META_OUTPUT, uapi.V4L2_CAP_META_OUTPUT),
        True,
    ),
)


_VIDEO = frozenset(type_ for kind in KINDS[:2] for type_ in (kind.capture[0], kind.output[0]))


def probe(fd: int, type_: int, driver: str = "", side: int = 0, chosen: Any = None) -> Queue | str:
    """Look whether a queue takes user pointers: the queue, or the reason why not.

    ``side`` asks for a square picture, ``chosen`` is a whole format, in place of the present one.
    OSError with EBUSY when somebody else has the queue.
    """
    try:
        answer = uapi.reqbufs(fd, type_, 0)
    except OSError as error:
        if error.errno == EINVAL:
            return "does not offer USERPTR"
        if error.errno == ENOTTY:
            return "has no streaming queue"
        raise
    if answer.capabilities and not answer.capabilities & uapi.V4L2_BUF_CAP_SUPPORTS_USERPTR:
        return "does not offer USERPTR"
    try:
        present = uapi.get_format(fd, type_)
        wanted = _more_planes(fd, present) if type_ in uapi.MULTI_PLANAR else None
        if driver == vivid.NAME and type_ in _VIDEO:
            small = vivid.small(fd, wanted or present)
            wanted = None if small is present else small
        if side:
            wanted = sized(fd, type_, side)
        wanted = chosen or wanted or v4l2_formats.small(driver, present)
    except OSError as error:
        return f"tells no format: {error.strerror}"
    if wanted is not None:
        uapi.set_format(fd, uapi.copy_format(wanted))
    try:
        return _measure(fd, type_, wanted, present)
    finally:
        if wanted is not None:
            uapi.set_format(fd, uapi.copy_format(present))


def _measure(fd: int, type_: int, wanted: Any, present: Any) -> Queue | str:
    uapi.reqbufs(fd, type_, 1)
    try:
        lengths = uapi.plane_lengths(uapi.querybuf(fd, type_))
        if not all(lengths):
            lengths = uapi.plane_sizes(present if wanted is None else wanted)
        if not lengths or not all(lengths):
            return "has a format without a size"
        return Queue(type_, lengths, wanted, present, _prepares(fd, type_))
    finally:
        uapi.reqbufs(fd, type_, 0)


def _prepares(fd: int, type_: int) -> bool:
    """An index that no queue has: EINVAL where the call exists, ENOTTY where not."""
    buffer = uapi.new_buffer(type_, 0xFFFFFFFF, uapi.V4L2_MEMORY_USERPTR)
    try:
        uapi.prepare_buf(fd, buffer)
    except OSError as error:
        return error.errno != ENOTTY
    return True


def _more_planes(fd: int, present: Any) -> Any:
    """A format of two planes or more, when the present one has fewer and the driver has one."""
    if present.fmt.pix_mp.num_planes >= 2:
        return None
    for code in uapi.enum_formats(fd, present.type):
        wanted = uapi.copy_format(present)
        wanted.fmt.pix_mp.pixelformat = code
        try:
            uapi.try_format(fd, wanted)
        except OSError:
            continue
        if wanted.fmt.pix_mp.pixelformat == code and wanted.fmt.pix_mp.num_planes >= 2:
            return wanted
    return None


def look(node: Node) -> tuple[list[Pinner], str]:
    """The pinners of an opened and identified node, and what there is to say of the rest."""
    pinners: list[Pinner] = []
    reasons: list[str] = []
    fd = os.open(node.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        caps = uapi.querycap(fd).caps
        if not caps & uapi.V4L2_CAP_STREAMING:
            return [], "has no streaming queue"
        if caps & uapi.V4L2_CAP_VIDEO_M2M:
            pinners, reasons = _memory_to_memory(fd, node)
        for kind in KINDS[1:] if caps & uapi.V4L2_CAP_VIDEO_M2M else KINDS:
            queues: dict[Direction, Queue] = {}
            for direction, (type_, announced) in (
                (Direction.CAPTURE, kind.capture),
                (Direction.OUTPUT, kind.output),
            ):
                if not caps & announced:
                    continue
                found = _asked(fd, type_, node.driver)
                if isinstance(found, Queue):
                    queues[direction] = found
                else:
                    reasons.append(f"{direction} queue of type {type_} {found}")
            paths = _paths(fd, node, queues) if queues else {}
            pinners += _pinners(node, kind, queues, paths, bool(caps & uapi.V4L2_CAP_TOUCH))
            pinners += _variants(fd, node, kind, queues)
    finally:
        os.close(fd)
    if not pinners and not reasons:
        reasons.append("has no queue of a known kind")
    return pinners, "; ".join(reasons)


def _paths(fd: int, node: Node, queues: dict[Direction, Queue]) -> dict[Direction, DataPath]:
    """How the bytes of each queue can be known; nothing for those where they can't."""
    found: dict[Direction, DataPath] = {}
    path = Path(node.path)
    if len(queues) > 1:
        return found  # memory to memory: what comes out is for the driver to know
    for direction, queue in queues.items():
        if node.driver == vivid.NAME and queue.type in _VIDEO:
            if direction is Direction.CAPTURE:
                found[direction] = vivid.VividCapture(path, queue, fd)
            elif outputs := controls.outputs(fd):
                present = outputs[controls.get_output(fd)]
                found[direction] = vivid.VividOutput(path, node.bus, present)
        elif direction is Direction.CAPTURE:
            source = source_of(node) if queue.type in _VIDEO else None
            found[direction] = Pictured(path, queue, source) if source else still(path, queue)
    return found


def _asked(fd: int, type_: int, driver: str = "", side: int = 0) -> Queue | str:
    try:
        return probe(fd, type_, driver, side)
    except OSError as error:
        busy = "is in use by another program"
        return busy if error.errno == EBUSY else f"answers {error.strerror}"


def _memory_to_memory(fd: int, node: Node) -> tuple[list[Pinner], list[str]]:
    """The pinners of a node whose two queues are one context's.

    With dma-contig it matters whether a buffer's frames are neighbours: one has several pages.
    """
    pinners: list[Pinner] = []
    reasons: list[str] = []
    kind = KINDS[0]
    for suffix, side in SIDES.items() if node.allocator == "dma-contig" else [("", 0)]:
        queues: dict[Direction, Queue] = {}
        for direction, (type_, _) in (
            (Direction.CAPTURE, kind.capture),
            (Direction.OUTPUT, kind.output),
        ):
            found = _asked(fd, type_, node.driver, side)
            if isinstance(found, Queue):
                queues[direction] = found
            else:
                reasons.append(f"{direction} queue of type {type_} {found}")
        if len(queues) < 2:
            return [*pinners, *_pinners(node, kind, queues, {}, False)], reasons
        name = f"v4l2-{_plain(node.driver)}-{_plain(Path(node.path).name)}{suffix}"
        pinners.append(M2mPinner(node, name, queues))
        if all(queue.prepares for queue in queues.values()):
            call = "VIDIOC_PREPARE_BUF"
            pinners.append(M2mPinner(node, f"{name}-prepare", queues, call=call))
    if node.allocator == "dma-contig":
        name = f"v4l2-{_plain(node.driver)}-{_plain(Path(node.path).name)}-as-it-is"
        types = {Direction.CAPTURE: kind.capture[0], Direction.OUTPUT: kind.output[0]}
        pinners.append(AsItIsPinner(node, name, types))
    return pinners, reasons


def _pinners(
    node: Node,
    kind: Kind,
    queues: dict[Direction, Queue],
    paths: dict[Direction, DataPath],
    touch: bool,
) -> list[Pinner]:
    if not queues:
        return []
    name = _name(node, kind)
    slow = kind.slow or touch
    made: list[Pinner] = [V4l2Pinner(node, name, queues, slow=slow, paths=paths)]
    prepared = {direction: queue for direction, queue in queues.items() if queue.prepares}
    if prepared:
        # The single-planar queues tell in a short run what this call does otherwise than QBUF.
        slow = slow or kind.suffix == "-mplane"
        call = "VIDIOC_PREPARE_BUF"
        made.append(
            V4l2Pinner(node, f"{name}-prepare", prepared, call=call, slow=slow, paths=paths)
        )
    return made


def _variants(fd: int, node: Node, kind: Kind, queues: dict[Direction, Queue]) -> Iterator[Pinner]:
    """A capture queue once more in each further format; they are slow."""
    queue = queues.get(Direction.CAPTURE)
    if queue is None or len(queues) > 1:
        return
    for variant in v4l2_formats.variants(fd, node, queue.present):
        found = probe(fd, queue.type, chosen=variant.wanted)
        if isinstance(found, Queue):
            own = {Direction.CAPTURE: found}
            paths = _paths(fd, node, own)
            yield V4l2Pinner(node, _name(node, kind) + variant.suffix, own, slow=True, paths=paths)


def _name(node: Node, kind: Kind) -> str:
    return f"v4l2-{_plain(node.driver)}-{_plain(Path(node.path).name)}{kind.suffix}"


def _plain(text: str) -> str:
    """A driver's or node's name as part of a cell's id."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text).lower()


def devices() -> list[tuple[str, Path]]:
    """(node, sysfs folder) of every video4linux device that udev knows."""
    import pyudev  # costs a library and ten modules: only where devices are looked for

    found = pyudev.Context().list_devices(subsystem="video4linux")
    return [(device.device_node, Path(device.sys_path)) for device in found if device.device_node]


def _order(node: str) -> tuple[str, int]:
    """video before vbi is of no use to anybody; 2 before 10 is."""
    name = Path(node).name
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def survey(
    only: Sequence[str] = (), candidates: Iterable[tuple[str, Path]] | None = None
) -> Survey:
    """Look at every video4linux node, or at those that ``only`` selects."""
    pinners: list[Pinner] = []
    nodes: list[Node] = []
    if candidates is None:
        try:
            candidates = devices()
        except ImportError as error:
            raise HilError(
                f"libudev can't be loaded: {error}", "install the distribution's package libudev1"
            ) from error
    for path, place in sorted(candidates, key=lambda item: _order(item[0])):
        try:
            node = _identify(path, place)
        except OSError as error:
            what = "is no V4L2 device node" if error.errno == ENOTTY else f"{error.strerror}"
            if selected(only, (path, Path(path).name)):
                nodes.append(Node(path, "", "", "", "unknown", (), what))
            continue
        names = (path, Path(path).name, node.driver, node.bus)
        if not selected(only, names) and not any(s.startswith("v4l2-") for s in only):
            continue  # not asked for: its queues are left alone
        try:
            found, reason = look(node)
        except OSError as error:
            found, reason = [], f"{error.strerror}"
        chosen = [p for p in found if selected(only, (*names, p.name))]
        if chosen or selected(only, names):
            pinners += chosen
            nodes.append(node._replace(pinners=tuple(p.name for p in chosen), reason=reason))
    return Survey(pinners, nodes)


def _identify(path: str, place: Path) -> Node:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        capability = uapi.querycap(fd)
    finally:
        os.close(fd)
    driver, bus, card = (
        text.decode("utf-8", "replace")
        for text in (capability.driver, capability.bus_info, capability.card)
    )
    return Node(path, driver, bus, card, allocator_of(place, bus), (), "")
