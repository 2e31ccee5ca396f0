# SPDX-License-Identifier: GPL-2.0-or-later
"""V4L2 discovery and sessions against a model of videobuf2's answers; no device is needed."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from errno import EBUSY, EFAULT, EINVAL, ENOTTY
from pathlib import Path
from typing import Any

import pytest

from hil.cells import Direction
from hil.errors import HilError
from hil.memory.base import Buffer
from hil.pinners import survey, v4l2, v4l2_allocator, v4l2_discovery
from hil.pinners.base import Node, selected
from hil.uapi import access, mm
from hil.uapi import v4l2 as uapi

NV12, NM12 = 0x3231564E, 0x32314D4E
USERPTR = uapi.V4L2_BUF_CAP_SUPPORTS_MMAP | uapi.V4L2_BUF_CAP_SUPPORTS_USERPTR


class Device:
    """A driver on videobuf2, as far as its ioctls can be seen."""

    def __init__(self, caps: int, sizes: dict[int, tuple[int, ...]]) -> None:
        self.caps = caps | uapi.V4L2_CAP_STREAMING
        self.sizes = sizes
        self.buf_caps = USERPTR
        self.format = NV12
        self.formats = [NV12, NM12]
        self.errno: dict[int, int] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.requested = 0

    def planes(self, type_: int) -> tuple[int, ...]:
        sizes = self.sizes[type_]
        return sizes if type_ not in uapi.MULTI_PLANAR or self.format == NM12 else (sum(sizes),)

    def ioctl(self, number: int, it: Any) -> None:
        if number in self.errno:
            raise OSError(self.errno[number], os.strerror(self.errno[number]))
        names = {v: k for k, v in vars(uapi).items() if k.startswith("VIDIOC_")}
        if number not in names:  # controls and inputs: it has none
            raise OSError(ENOTTY, "Inappropriate ioctl for device")
        handler = getattr(self, names[number].removeprefix("VIDIOC_").lower(), None)
        if handler is None:
            raise OSError(ENOTTY, "Inappropriate ioctl for device")
        handler(it)

    def querycap(self, it: Any) -> None:
        it.driver, it.card, it.bus_info = b"vimc", b"vimc", b"platform:vimc-001"
        it.capabilities, it.device_caps = 0xFFFFFFFF, self.caps

    def reqbufs(self, it: Any) -> None:
        self.calls.append(("reqbufs", it.type, it.count))
        if it.type not in self.sizes:
            raise OSError(EINVAL, "Invalid argument")
        self.requested, it.capabilities = it.count, self.buf_caps

    def g_fmt(self, it: Any) -> None:
        if it.type in uapi.MULTI_PLANAR:
            sizes = self.planes(it.type)
            it.fmt.pix_mp.pixelformat, it.fmt.pix_mp.num_planes = self.format, len(sizes)
        else:
            it.fmt.pix.pixelformat = self.format

    def try_fmt(self, it: Any) -> None:
        code = it.fmt.pix_mp.pixelformat
        it.fmt.pix_mp.num_planes = 2 if code == NM12 else 1

    def s_fmt(self, it: Any) -> None:
        if self.requested:
            raise OSError(EBUSY, "Device or resource busy")
        self.format = it.fmt.pix_mp.pixelformat
        self.calls.append(("s_fmt", self.format))

    def enum_fmt(self, it: Any) -> None:
        if it.index >= len(self.formats):
            raise OSError(EINVAL, "Invalid argument")
        it.pixelformat = self.formats[it.index]

    def querybuf(self, it: Any) -> None:
        sizes = self.planes(it.type)
        if it.type in uapi.MULTI_PLANAR:
            it.length = len(sizes)
            for plane, size in enumerate(sizes):
                it.m.planes[plane].length = size
        else:
            (it.length,) = sizes

    def qbuf(self, it: Any, call: str = "qbuf") -> None:
        if it.index >= self.requested:
            raise OSError(EINVAL, "Invalid argument")
        if it.type in uapi.MULTI_PLANAR:
            planes = [it.m.planes[i] for i in range(it.length)]
            self.calls.append((call, [(p.m.userptr, p.length, p.bytesused) for p in planes]))
        else:
            self.calls.append((call, it.m.userptr, it.length, it.bytesused))
            if it.m.userptr == 0:
                raise OSError(EFAULT, "Bad address")

    def prepare_buf(self, it: Any) -> None:
        self.qbuf(it, "prepare_buf")

    def streamoff(self, it: Any) -> None:
        self.calls.append(("streamoff", it.value))


Machine = Callable[..., list[tuple[str, Path]]]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Puts devices in the place of nodes; each node is a plain file."""
    nodes: dict[str, Device] = {}

    def ioctl(fd: int, number: int, it: Any) -> None:
        device = nodes.get(str(Path(f"/proc/self/fd/{fd}").readlink()))
        if device is None:
            raise OSError(ENOTTY, os.strerror(ENOTTY))
        device.ioctl(number, it)

    def put(**devices: Device | None) -> list[tuple[str, Path]]:
        made = []
        for name, device in devices.items():
            path = tmp_path / name
            path.touch()
            if device is not None:
                nodes[str(path)] = device
            made.append((str(path), tmp_path / "sys" / name))
        return made

    monkeypatch.setattr(uapi, "ioctl", ioctl)
    access.peek(0, 0)  # what it keeps open for good is open now
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield put
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "a node was left open"


def capture(size: int = 460800) -> Device:
    return Device(uapi.V4L2_CAP_VIDEO_CAPTURE, {uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE: (size,)})


def test_each_queue_and_call_is_a_pinner_with_a_plain_name(machine: Machine) -> None:
    vbi = Device(
        uapi.V4L2_CAP_VBI_CAPTURE | uapi.V4L2_CAP_SLICED_VBI_CAPTURE,
        {
            uapi.V4L2_BUF_TYPE_VBI_CAPTURE: (51840,),
            uapi.V4L2_BUF_TYPE_SLICED_VBI_CAPTURE: (3072,),
        },
    )
    found = v4l2_discovery.survey(candidates=machine(vbi0=vbi, video10=capture(), video2=capture()))
    assert [p.name for p in found.pinners] == [
        "v4l2-vimc-vbi0",
        "v4l2-vimc-vbi0-prepare",
        "v4l2-vimc-vbi0-sliced",
        "v4l2-vimc-vbi0-sliced-prepare",
        "v4l2-vimc-video2",
        "v4l2-vimc-video2-prepare",
        "v4l2-vimc-video10",
        "v4l2-vimc-video10-prepare",
    ]
    assert [p.slow for p in found.pinners] == [True] * 4 + [False] * 4
    first = found.pinners[-1]
    assert (first.driver, first.bus, first.family) == ("vimc", "platform:vimc-001", "vb2")
    assert first.directions == (Direction.CAPTURE,)
    assert found.nodes[0].pinners == tuple(p.name for p in found.pinners[:4])


def test_a_memory_to_memory_node_has_both_directions_in_one_pinner(machine: Machine) -> None:
    m2m = Device(
        uapi.V4L2_CAP_VIDEO_M2M,
        {uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE: (100,), uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT: (200,)},
    )
    found = v4l2_discovery.survey(candidates=machine(video0=m2m))
    assert found.pinners[0].directions == (Direction.CAPTURE, Direction.OUTPUT)
    with found.pinners[0].open(Direction.OUTPUT) as session:
        assert session.length == 200


class G2d(Device):
    """A memory-to-memory driver on dma-contig: no size before a format is set, and it copies."""

    def __init__(self, path: Path) -> None:
        types = (uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE, uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT)
        super().__init__(uapi.V4L2_CAP_VIDEO_M2M, dict.fromkeys(types, (0,)))
        self.errno[uapi.VIDIOC_PREPARE_BUF] = ENOTTY
        self.buffers: dict[int, int] = {}
        self.user = 0
        self.path = path

    def try_fmt(self, it: Any) -> None:
        pix = uapi.pix_format(it)
        pix.bytesperline = 4 * pix.width
        pix.sizeimage = pix.bytesperline * pix.height

    def s_fmt(self, it: Any) -> None:
        self.try_fmt(it)
        self.sizes[it.type] = (uapi.pix_format(it).sizeimage,)

    def querycap(self, it: Any) -> None:
        super().querycap(it)
        it.driver = b"s5p-g2d"

    def g_fmt(self, it: Any) -> None:
        """Each file's own; nobody here asks after having set one."""
        pix = uapi.pix_format(it)
        pix.width, pix.height, pix.bytesperline = 100, 100, 400
        self.sizes[it.type] = (0,)

    def reqbufs(self, it: Any) -> None:
        super().reqbufs(it)
        if it.count and not all(self.sizes[it.type]):
            raise OSError(EINVAL, "Invalid argument")

    def querybuf(self, it: Any) -> None:
        super().querybuf(it)
        if it.memory == uapi.V4L2_MEMORY_MMAP:
            self.path.write_bytes(bytes(it.length))

    def qbuf(self, it: Any, call: str = "qbuf") -> None:
        if it.memory == uapi.V4L2_MEMORY_USERPTR:
            super().qbuf(it, call)
            self.user = it.m.userptr
        self.buffers[it.type] = it.memory

    def streamon(self, it: Any) -> None:
        self.calls.append(("streamon", it.value))

    def dqbuf(self, it: Any) -> None:
        if it.type not in self.buffers:
            raise OSError(EINVAL, "Invalid argument")
        user, size = self.user, self.sizes[it.type][0]
        if self.buffers.pop(it.type) != uapi.V4L2_MEMORY_USERPTR:
            return
        if it.type == uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE:
            access.poke(user, self.path.read_bytes()[:size])
        else:
            with self.path.open("r+b") as file:
                file.write(access.peek(user, size))


@pytest.fixture
def g2d(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pinners of such a node."""
    monkeypatch.setattr(v4l2_discovery, "allocator_of", lambda *_: "dma-contig")
    nodes = machine(video0=G2d(tmp_path / "video0"))
    return list(v4l2_discovery.survey(candidates=nodes).pinners)


def test_a_dma_contig_context_is_asked_for_one_page_and_for_several(g2d: list[Any]) -> None:
    assert [p.name for p in g2d] == [
        "v4l2-s5p-g2d-video0", "v4l2-s5p-g2d-video0-4-pages", "v4l2-s5p-g2d-video0-as-it-is",
    ]  # fmt: skip
    assert [p.directions for p in g2d] == [(Direction.CAPTURE, Direction.OUTPUT)] * 3
    lengths = []
    for pinner in g2d[:2]:
        with pinner.open(Direction.CAPTURE) as session:
            lengths.append(session.length)
    assert lengths == [mm.PAGE, 4 * mm.PAGE]
    assert g2d[0].family == "vb2-dma-contig"
    assert g2d[0].settings() == []


@pytest.mark.parametrize("direction", list(Direction))
def test_a_job_of_both_queues_proves_the_data(g2d: list[Any], direction: Direction) -> None:
    memory = mmap.mmap(-1, mm.PAGE)
    buffer = Buffer(ctypes.addressof(ctypes.c_char.from_buffer(memory)), mm.PAGE)
    with g2d[0].open(direction) as session:
        assert session.pin(buffer).errno == 0
        moved = session.transfer(buffer)
        assert len(moved.sent) == mm.PAGE
        assert moved.sent == moved.arrived


def test_a_format_without_a_size_is_told_by_its_errno(g2d: list[Any]) -> None:
    with g2d[2].open(Direction.OUTPUT) as session:
        assert session.length == 40000
        assert session.pin(Buffer(0x7000, 40000)) == ("VIDIOC_REQBUFS", EINVAL, 0)


@pytest.mark.parametrize(
    ("arch", "place", "unaligned"),
    [
        ("x86_64", (0x7001, 4097), False),
        ("arm", (0x7020, 4096), True),
        ("arm", (0x7040, 4096), False),
        ("aarch64", (0x7000, 4100), True),
    ],
)
def test_dma_contig_wants_cache_lines_where_dma_is_not_coherent(
    g2d: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    arch: str,
    place: tuple[int, int],
    unaligned: bool,
) -> None:
    monkeypatch.setattr(v4l2.mm, "machine", lambda: arch)
    assert g2d[0].facts(Buffer(*place)) == {"unaligned": unaligned}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"errno": {uapi.VIDIOC_REQBUFS: EBUSY}}, "is in use by another program"),
        ({"errno": {uapi.VIDIOC_REQBUFS: EINVAL}}, "does not offer USERPTR"),
        ({"buf_caps": uapi.V4L2_BUF_CAP_SUPPORTS_MMAP}, "does not offer USERPTR"),
        ({"caps": uapi.V4L2_CAP_VIDEO_CAPTURE}, "has no streaming queue"),
        ({"caps": uapi.V4L2_CAP_STREAMING}, "has no queue of a known kind"),
        ({"errno": {uapi.VIDIOC_QUERYCAP: ENOTTY}}, "is no V4L2 device node"),
    ],
)
def test_a_node_without_pinner_says_why(
    machine: Machine, change: dict[str, Any], reason: str
) -> None:
    device = capture()
    for name, value in change.items():
        setattr(device, name, value)
    found = v4l2_discovery.survey(candidates=machine(video0=device))
    assert found.pinners == []
    assert reason in found.nodes[0].reason


def test_a_kernel_without_buffer_capabilities_is_believed_by_its_success(machine: Machine) -> None:
    device = capture()
    device.buf_caps = 0
    assert len(v4l2_discovery.survey(candidates=machine(video0=device)).pinners) == 2


def test_a_driver_without_prepare_buf_has_no_prepare_pinner(machine: Machine) -> None:
    device = capture()
    device.errno[uapi.VIDIOC_PREPARE_BUF] = ENOTTY
    found = v4l2_discovery.survey(candidates=machine(video0=device))
    assert [p.name for p in found.pinners] == ["v4l2-vimc-video0"]


def test_one_cell_opens_requests_pins_and_gives_back(machine: Machine) -> None:
    device = capture(1000)
    pinner = v4l2_discovery.survey(candidates=machine(video0=device)).pinners[0]
    device.calls.clear()
    with pinner.open(Direction.CAPTURE) as session:
        assert session.length == 1000
        assert session.pin(Buffer(0x7000, 2000)) == ("VIDIOC_QBUF", 0, 0)
        assert session.pin(Buffer(0, 2000)) == ("VIDIOC_QBUF", EFAULT, 0)
        session.stop()
    session.release()
    kind = uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE
    assert device.calls == [
        ("reqbufs", kind, 1),
        ("qbuf", 0x7000, 2000, 0),
        ("qbuf", 0, 2000, 0),
        ("streamoff", kind),
        ("reqbufs", kind, 0),
    ]


def test_the_prepare_pinner_prepares(machine: Machine) -> None:
    device = capture(1000)
    pinner = v4l2_discovery.survey(candidates=machine(video0=device)).pinners[1]
    with pinner.open(Direction.CAPTURE) as session:
        assert session.pin(Buffer(0x7000, 2000)).call == "VIDIOC_PREPARE_BUF"
    assert ("prepare_buf", 0x7000, 2000, 0) in device.calls


def test_an_output_buffer_holds_a_frame_but_never_more_than_its_length(machine: Machine) -> None:
    device = Device(uapi.V4L2_CAP_VIDEO_OUTPUT, {uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT: (1000,)})
    pinner = v4l2_discovery.survey(candidates=machine(video1=device)).pinners[0]
    with pinner.open(Direction.OUTPUT) as session:
        session.pin(Buffer(0x7000, 2000))
        session.pin(Buffer(0x7000, 10))
        session.pin(Buffer(0x7000, 0))
    used = [call[2:] for call in device.calls if call[0] == "qbuf"]
    assert used == [(2000, 1000), (10, 10), (0, 0)]


def mplane() -> Device:
    return Device(
        uapi.V4L2_CAP_VIDEO_CAPTURE_MPLANE,
        {uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE: (8192 + 1, 4096)},
    )


def test_a_multi_planar_queue_gets_two_planes_and_its_format_back(machine: Machine) -> None:
    device = mplane()
    pinner = v4l2_discovery.survey(candidates=machine(video0=device)).pinners[0]
    assert pinner.name == "v4l2-vimc-video0-mplane"
    assert device.format == NV12
    with pinner.open(Direction.CAPTURE) as session:
        assert device.format == NM12
        assert session.length == 4096
        result = session.pin(Buffer(0x7000, 5000))
        session.pin(Buffer(0x7000, 5000))
    assert device.format == NV12
    assert result.companion_pages == 3
    one, two = (call[1] for call in device.calls if call[0] == "qbuf")
    assert one == two, "the companion must not be pinned anew"
    assert one[0][0] % v4l2.PAGE == 0
    assert [plane[1:] for plane in one] == [(8193, 0), (5000, 0)]
    assert one[1][0] == 0x7000


def test_a_multi_planar_queue_that_has_two_planes_is_left_alone(machine: Machine) -> None:
    device = mplane()
    device.format = NM12
    pinner = v4l2_discovery.survey(candidates=machine(video0=device)).pinners[0]
    with pinner.open(Direction.CAPTURE) as session:
        assert session.length == 4096
    assert not [call for call in device.calls if call[0] == "s_fmt"]


def test_a_multi_planar_queue_with_one_plane_only_is_tested_on_it(machine: Machine) -> None:
    device = mplane()
    device.formats = [NV12]
    pinner = v4l2_discovery.survey(candidates=machine(video0=device)).pinners[0]
    with pinner.open(Direction.CAPTURE) as session:
        assert session.length == 8193 + 4096
        assert session.pin(Buffer(0x7000, 20000)).companion_pages == 0


def test_a_session_that_cannot_open_leaves_format_and_descriptor_as_they_were(
    machine: Machine,
) -> None:
    device = mplane()
    pinner = v4l2_discovery.survey(candidates=machine(video0=device)).pinners[0]
    device.errno[uapi.VIDIOC_REQBUFS] = EBUSY
    with pytest.raises(OSError, match="busy"):
        pinner.open(Direction.CAPTURE)
    assert device.format == NV12


def test_selectors_name_paths_drivers_buses_and_pinners(machine: Machine) -> None:
    nodes = machine(video0=capture(), video1=capture())
    path = nodes[1][0]
    for only in ([path], ["video1"]):
        found = v4l2_discovery.survey(only, nodes)
        assert [n.path for n in found.nodes] == [path]
        assert len(found.pinners) == 2
    assert len(v4l2_discovery.survey(["vimc"], nodes).pinners) == 4
    assert len(v4l2_discovery.survey(["platform:vimc-*"], nodes).pinners) == 4
    prepare = v4l2_discovery.survey(["v4l2-vimc-video0-prepare"], nodes)
    assert [p.name for p in prepare.pinners] == ["v4l2-vimc-video0-prepare"]
    assert v4l2_discovery.survey(["uvcvideo"], nodes).nodes == []


def test_a_node_that_was_not_asked_for_is_left_alone(machine: Machine) -> None:
    device = capture()
    v4l2_discovery.survey(["video9"], machine(video0=device))
    assert device.calls == []


def test_a_selector_that_matches_nothing_is_the_users_error() -> None:
    with pytest.raises(HilError, match="no device matches /dev/no-such-node"):
        survey(["/dev/no-such-node"])


def test_no_selector_selects_everything() -> None:
    assert selected((), ("video0",))
    assert selected(("vid*",), ("vbi0", "video0"))
    assert not selected(("vid*",), ("vbi0",))


def sysfs(root: Path, held: tuple[str, ...], allocators: str | None = None) -> Path:
    """A video4linux folder whose device's parent has the driver, as with USB."""
    module = root / "module" / "camera"
    (module / "parameters").mkdir(parents=True)
    if allocators is not None:
        (module / "parameters" / "allocators").write_text(allocators)
    driver = root / "bus" / "driver"
    driver.mkdir(parents=True)
    (driver / "module").symlink_to(module)
    inner = root / "devices" / "usb1" / "interface"
    inner.mkdir(parents=True)
    (inner.parent / "driver").symlink_to(driver)
    device = root / "class" / "video0"
    device.mkdir(parents=True)
    (device / "device").symlink_to(inner)
    for name in held:
        (root / "module" / f"videobuf2_{name}" / "holders" / "camera").mkdir(parents=True)
    return device


@pytest.mark.parametrize(
    ("held", "allocators", "bus", "expected"),
    [
        (("vmalloc",), None, "usb-1", "vmalloc"),
        (("dma_sg",), None, "pci", "dma-sg"),
        (("dma_contig",), None, "platform", "dma-contig"),
        (("vmalloc", "dma_contig"), "0,1,0\n", "platform:vivid-000", "vmalloc"),
        (("vmalloc", "dma_contig"), "0,1,0\n", "platform:vivid-001", "dma-contig"),
        (("vmalloc", "dma_contig"), "0\n", "platform:vivid-007", "unknown"),
        (("vmalloc", "dma_sg"), None, "pci", "unknown"),
        ((), None, "pci", "unknown"),
    ],
)
def test_the_allocator_is_what_the_driver_holds(
    tmp_path: Path, held: tuple[str, ...], allocators: str | None, bus: str, expected: str
) -> None:
    device = sysfs(tmp_path, held, allocators)
    assert v4l2_allocator.allocator_of(device, bus, tmp_path) == expected


def test_a_known_allocator_chooses_the_rule_table() -> None:
    queue = v4l2.Queue(1, (1,), None, None, True)
    for allocator, family in (
        ("vmalloc", "vb2-vmalloc"),
        ("dma-sg", "vb2-dma-sg"),
        ("unknown", "vb2"),
    ):
        node = Node("/dev/video0", "x", "b", "c", allocator, (), "")
        assert v4l2.V4l2Pinner(node, "n", {Direction.CAPTURE: queue}).family == family
