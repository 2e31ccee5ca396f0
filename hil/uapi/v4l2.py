# SPDX-License-Identifier: GPL-2.0-or-later
"""V4L2 as include/uapi/linux/videodev2.h has it.

Most structures and numbers come from the package v4l2-python3 (``import v4l2``), which is hand kept
and lacks some: these are here, their ioctl numbers built with ioctl-opt.  STRUCTURES names every
structure in use; a unit test compares each of them, and every VIDIOC_ and V4L2_ name of this
module, with what the compiler makes of the system's header.

Wrappers raise OSError with the call's errno.  The layout is the native one: 64-bit programs on a
64-bit kernel, or 32-bit on 32-bit.
"""

from __future__ import annotations

import ctypes
import fcntl
from typing import Any

import v4l2
from ioctl_opt import IOWR

u8, u16, u32, i32 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_int32


class Capability(ctypes.Structure):
    """struct v4l2_capability with its device_caps."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", u32),
        ("capabilities", u32),
        ("device_caps", u32),
        ("reserved", u32 * 3),
    )

    @property
    def caps(self) -> int:
        """What this node can do; the physical device may do more through other nodes."""
        if self.capabilities & V4L2_CAP_DEVICE_CAPS:
            return int(self.device_caps)
        return int(self.capabilities)


class PixFormat(ctypes.Structure):
    """struct v4l2_pix_format with the fields after ``priv``."""

    _fields_ = (
        ("width", u32),
        ("height", u32),
        ("pixelformat", u32),
        ("field", u32),
        ("bytesperline", u32),
        ("sizeimage", u32),
        ("colorspace", u32),
        ("priv", u32),
        ("flags", u32),
        ("ycbcr_enc", u32),
        ("quantization", u32),
        ("xfer_func", u32),
    )


class RequestBuffers(ctypes.Structure):
    """struct v4l2_requestbuffers with its capabilities (4.20) and flags (5.16)."""

    _fields_ = (
        ("count", u32),
        ("type", u32),
        ("memory", u32),
        ("capabilities", u32),
        ("flags", u8),
        ("reserved", u8 * 3),
    )


class ExportBuffer(ctypes.Structure):
    """struct v4l2_exportbuffer."""

    _fields_ = (
        ("type", u32),
        ("index", u32),
        ("plane", u32),
        ("flags", u32),
        ("fd", i32),
        ("reserved", u32 * 11),
    )


class Rectangle(ctypes.Structure):
    """struct v4l2_rect."""

    _fields_ = (("left", i32), ("top", i32), ("width", u32), ("height", u32))


class Selection(ctypes.Structure):
    """struct v4l2_selection."""

    _fields_ = (
        ("type", u32),
        ("target", u32),
        ("flags", u32),
        ("r", Rectangle),
        ("reserved", u32 * 9),
    )


Format: Any = v4l2.v4l2_format
Buffer: Any = v4l2.v4l2_buffer
Plane: Any = v4l2.v4l2_plane
FormatDescription: Any = v4l2.v4l2_fmtdesc


class CreateBuffers(ctypes.Structure):
    """struct v4l2_create_buffers."""

    _fields_ = (
        ("index", u32),
        ("count", u32),
        ("memory", u32),
        ("format", Format),
        ("capabilities", u32),
        ("flags", u32),
        ("reserved", u32 * 6),
    )


STRUCTURES: dict[str, Any] = {
    "v4l2_capability": Capability,
    "v4l2_pix_format": PixFormat,
    "v4l2_requestbuffers": RequestBuffers,
    "v4l2_exportbuffer": ExportBuffer,
    "v4l2_create_buffers": CreateBuffers,
    "v4l2_selection": Selection,
    "v4l2_format": Format,
    "v4l2_buffer": Buffer,
    "v4l2_plane": Plane,
    "v4l2_fmtdesc": FormatDescription,
    "v4l2_pix_format_mplane": v4l2.v4l2_pix_format_mplane,
    "v4l2_plane_pix_format": v4l2.v4l2_plane_pix_format,
    "v4l2_vbi_format": v4l2.v4l2_vbi_format,
    "v4l2_sliced_vbi_format": v4l2.v4l2_sliced_vbi_format,
    "v4l2_sdr_format": v4l2.v4l2_sdr_format,
    "v4l2_meta_format": v4l2.v4l2_meta_format,
    "v4l2_timecode": v4l2.v4l2_timecode,
}

# v4l2-python3 builds signed numbers; fcntl.ioctl wants them as the kernel has them.
VIDIOC_QUERYCAP: int = v4l2.VIDIOC_QUERYCAP & 0xFFFFFFFF
VIDIOC_ENUM_FMT: int = v4l2.VIDIOC_ENUM_FMT & 0xFFFFFFFF
VIDIOC_G_FMT: int = v4l2.VIDIOC_G_FMT & 0xFFFFFFFF
VIDIOC_S_FMT: int = v4l2.VIDIOC_S_FMT & 0xFFFFFFFF
VIDIOC_TRY_FMT: int = v4l2.VIDIOC_TRY_FMT & 0xFFFFFFFF
VIDIOC_REQBUFS: int = v4l2.VIDIOC_REQBUFS & 0xFFFFFFFF
VIDIOC_QUERYBUF: int = v4l2.VIDIOC_QUERYBUF & 0xFFFFFFFF
VIDIOC_QBUF: int = v4l2.VIDIOC_QBUF & 0xFFFFFFFF
VIDIOC_DQBUF: int = v4l2.VIDIOC_DQBUF & 0xFFFFFFFF
VIDIOC_STREAMON: int = v4l2.VIDIOC_STREAMON & 0xFFFFFFFF
VIDIOC_STREAMOFF: int = v4l2.VIDIOC_STREAMOFF & 0xFFFFFFFF
VIDIOC_EXPBUF: int = IOWR(ord("V"), 16, ExportBuffer)
VIDIOC_CREATE_BUFS: int = IOWR(ord("V"), 92, CreateBuffers)
VIDIOC_PREPARE_BUF: int = IOWR(ord("V"), 93, Buffer)
VIDIOC_S_SELECTION: int = IOWR(ord("V"), 95, Selection)

V4L2_CAP_VIDEO_CAPTURE = 0x00000001
V4L2_CAP_VIDEO_OUTPUT = 0x00000002
V4L2_CAP_VBI_CAPTURE = 0x00000010
V4L2_CAP_VBI_OUTPUT = 0x00000020
V4L2_CAP_SLICED_VBI_CAPTURE = 0x00000040
V4L2_CAP_SLICED_VBI_OUTPUT = 0x00000080
V4L2_CAP_VIDEO_CAPTURE_MPLANE = 0x00001000
V4L2_CAP_VIDEO_OUTPUT_MPLANE = 0x00002000
V4L2_CAP_VIDEO_M2M_MPLANE = 0x00004000
V4L2_CAP_VIDEO_M2M = 0x00008000
V4L2_CAP_SDR_CAPTURE = 0x00100000
V4L2_CAP_SDR_OUTPUT = 0x00400000
V4L2_CAP_META_CAPTURE = 0x00800000
V4L2_CAP_STREAMING = 0x04000000
V4L2_CAP_META_OUTPUT = 0x08000000
V4L2_CAP_TOUCH = 0x10000000
V4L2_CAP_DEVICE_CAPS = 0x80000000

V4L2_BUF_TYPE_VIDEO_CAPTURE = 1
V4L2_BUF_TYPE_VIDEO_OUTPUT = 2
V4L2_BUF_TYPE_VBI_CAPTURE = 4
V4L2_BUF_TYPE_VBI_OUTPUT = 5
V4L2_BUF_TYPE_SLICED_VBI_CAPTURE = 6
V4L2_BUF_TYPE_SLICED_VBI_OUTPUT = 7
V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE = 9
V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE = 10
V4L2_BUF_TYPE_SDR_CAPTURE = 11
V4L2_BUF_TYPE_SDR_OUTPUT = 12
V4L2_BUF_TYPE_META_CAPTURE = 13
V4L2_BUF_TYPE_META_OUTPUT = 14

V4L2_SEL_TGT_CROP = 0x0000
V4L2_SEL_TGT_COMPOSE = 0x0100

V4L2_MEMORY_MMAP = 1
V4L2_MEMORY_USERPTR = 2
V4L2_MEMORY_DMABUF = 4

V4L2_BUF_CAP_SUPPORTS_MMAP = 1 << 0
V4L2_BUF_CAP_SUPPORTS_USERPTR = 1 << 1
V4L2_BUF_CAP_SUPPORTS_DMABUF = 1 << 2
V4L2_BUF_CAP_SUPPORTS_REQUESTS = 1 << 3
V4L2_BUF_CAP_SUPPORTS_ORPHANED_BUFS = 1 << 4
V4L2_BUF_CAP_SUPPORTS_M2M_HOLD_CAPTURE_BUF = 1 << 5
V4L2_BUF_CAP_SUPPORTS_MMAP_CACHE_HINTS = 1 << 6

V4L2_BUF_FLAG_MAPPED = 0x1
V4L2_BUF_FLAG_QUEUED = 0x2
V4L2_BUF_FLAG_DONE = 0x4
V4L2_BUF_FLAG_ERROR = 0x40
V4L2_BUF_FLAG_PREPARED = 0x400
V4L2_BUF_FLAG_NO_CACHE_INVALIDATE = 0x800
V4L2_BUF_FLAG_NO_CACHE_CLEAN = 0x1000
V4L2_BUF_FLAG_LAST = 0x100000

MULTI_PLANAR = frozenset((V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE, V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE))
OUTPUT_TYPES = frozenset(
    (
        V4L2_BUF_TYPE_VIDEO_OUTPUT,
        V4L2_BUF_TYPE_VBI_OUTPUT,
        V4L2_BUF_TYPE_SLICED_VBI_OUTPUT,
        V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE,
        V4L2_BUF_TYPE_SDR_OUTPUT,
        V4L2_BUF_TYPE_META_OUTPUT,
    )
)

MAX_PLANES = 8


def ioctl(fd: int, number: int, argument: Any) -> None:
    """One ioctl on a ctypes structure, in place.  OSError carries the errno; nothing is retried."""
    fcntl.ioctl(fd, number & 0xFFFFFFFF, argument)


def querycap(fd: int) -> Capability:
    """Driver, card, bus and capabilities of a node."""
    capability = Capability()
    ioctl(fd, VIDIOC_QUERYCAP, capability)
    return capability


def get_format(fd: int, type_: int) -> Any:
    """The queue's format as struct v4l2_format."""
    wanted = Format(type=type_)
    ioctl(fd, VIDIOC_G_FMT, wanted)
    return wanted


def try_format(fd: int, wanted: Any) -> Any:
    """What the driver would make of a format; ``wanted`` is changed in place and returned."""
    ioctl(fd, VIDIOC_TRY_FMT, wanted)
    return wanted


def set_format(fd: int, wanted: Any) -> Any:
    """Set a format; ``wanted`` is changed in place to what the driver made of it and returned."""
    ioctl(fd, VIDIOC_S_FMT, wanted)
    return wanted


def copy_format(source: Any) -> Any:
    """A format of its own with the same bytes."""
    return Format.from_buffer_copy(source)


def pix_format(source: Any) -> PixFormat:
    """The whole single-planar format inside a v4l2_format; v4l2-python3's ends at ``priv``."""
    return PixFormat.from_buffer(source.fmt)


def enum_formats(fd: int, type_: int) -> list[int]:
    """The pixel formats (four-character codes) of a queue, in the driver's order."""
    found: list[int] = []
    while True:
        description = FormatDescription(index=len(found), type=type_)
        try:
            ioctl(fd, VIDIOC_ENUM_FMT, description)
        except OSError:  # EINVAL ends the list, ENOTTY: this queue has none
            return found
        found.append(description.pixelformat)


def plane_sizes(source: Any) -> tuple[int, ...]:
    """Least bytes of each plane by a v4l2_format; a driver's queue_setup may ask for more."""
    kind = source.type
    fmt = source.fmt
    if kind in MULTI_PLANAR:
        planes = min(fmt.pix_mp.num_planes, MAX_PLANES)
        return tuple(fmt.pix_mp.plane_fmt[i].sizeimage for i in range(planes))
    if kind in (V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_BUF_TYPE_VIDEO_OUTPUT):
        return (fmt.pix.sizeimage,)
    if kind in (V4L2_BUF_TYPE_VBI_CAPTURE, V4L2_BUF_TYPE_VBI_OUTPUT):
        return (fmt.vbi.samples_per_line * (fmt.vbi.count[0] + fmt.vbi.count[1]),)
    if kind in (V4L2_BUF_TYPE_SLICED_VBI_CAPTURE, V4L2_BUF_TYPE_SLICED_VBI_OUTPUT):
        return (fmt.sliced.io_size,)
    if kind in (V4L2_BUF_TYPE_SDR_CAPTURE, V4L2_BUF_TYPE_SDR_OUTPUT):
        return (fmt.sdr.buffersize,)
    if kind in (V4L2_BUF_TYPE_META_CAPTURE, V4L2_BUF_TYPE_META_OUTPUT):
        return (fmt.meta.buffersize,)
    raise ValueError(f"buffer type {kind} has no format with a size")


def reqbufs(fd: int, type_: int, count: int, memory: int = V4L2_MEMORY_USERPTR) -> RequestBuffers:
    """Ask for buffers, or with count 0 give all back; returns count and capabilities as answered.

    ``capabilities`` is 0 before 4.20 and in drivers without videobuf2.
    """
    request = RequestBuffers(count=count, type=type_, memory=memory)
    ioctl(fd, VIDIOC_REQBUFS, request)
    return request


def querybuf(fd: int, type_: int, index: int = 0, memory: int = V4L2_MEMORY_USERPTR) -> Any:
    """struct v4l2_buffer of a requested buffer, as the driver fills it in."""
    buffer = new_buffer(type_, index, memory, MAX_PLANES)
    ioctl(fd, VIDIOC_QUERYBUF, buffer)
    return buffer


def plane_lengths(buffer: Any) -> tuple[int, ...]:
    """Bytes of each plane of a buffer that ``querybuf`` returned.

    For USERPTR before the first QBUF these are the least lengths that videobuf2 will accept
    (``__vb2_queue_alloc``: length = min_length = what queue_setup asked for).
    """
    if buffer.type in MULTI_PLANAR:
        return tuple(buffer.m.planes[i].length for i in range(min(buffer.length, MAX_PLANES)))
    return (buffer.length,)


def new_buffer(type_: int, index: int, memory: int, planes: int = 1) -> Any:
    """A struct v4l2_buffer; a multi-planar one gets an array of planes that lives as long as it."""
    buffer = Buffer(index=index, type=type_, memory=memory)
    if type_ in MULTI_PLANAR:
        array = (Plane * planes)()
        buffer.m.planes = ctypes.cast(array, ctypes.POINTER(Plane))
        buffer.length = planes
        buffer.kept = array
    return buffer


def qbuf(fd: int, buffer: Any) -> None:
    """Queue a buffer.  USERPTR memory is pinned, unless pointer and length are unchanged."""
    ioctl(fd, VIDIOC_QBUF, buffer)


def prepare_buf(fd: int, buffer: Any) -> None:
    """Pin and map a buffer without queueing it."""
    ioctl(fd, VIDIOC_PREPARE_BUF, buffer)


def dqbuf(fd: int, type_: int, memory: int = V4L2_MEMORY_USERPTR) -> Any:
    """Take back a finished buffer.  EAGAIN when none is ready and the node is non-blocking."""
    buffer = new_buffer(type_, 0, memory, MAX_PLANES)
    ioctl(fd, VIDIOC_DQBUF, buffer)
    return buffer


def streamon(fd: int, type_: int) -> None:
    """Start the queue."""
    ioctl(fd, VIDIOC_STREAMON, i32(type_))


def streamoff(fd: int, type_: int) -> None:
    """Stop the queue: every buffer goes back to user space, also when it was never started.

    The memory stays pinned (``__vb2_queue_cancel`` does not put it).
    """
    ioctl(fd, VIDIOC_STREAMOFF, i32(type_))


def expbuf(fd: int, type_: int, index: int = 0, plane: int = 0, flags: int = 0) -> int:
    """Export a plane of an MMAP buffer as a DMA-BUF; returns its file descriptor."""
    export = ExportBuffer(type=type_, index=index, plane=plane, flags=flags)
    ioctl(fd, VIDIOC_EXPBUF, export)
    return int(export.fd)


def create_bufs(fd: int, count: int, memory: int, format_: Any) -> CreateBuffers:
    """Add buffers for a format; returns index, count and capabilities as answered."""
    request = CreateBuffers(count=count, memory=memory, format=format_)
    ioctl(fd, VIDIOC_CREATE_BUFS, request)
    return request


def set_selection(fd: int, type_: int, target: int, area: tuple[int, int, int, int]) -> None:
    """Crop or compose: ``area`` is left, top, width, height in pixels; the driver may change it."""
    ioctl(fd, VIDIOC_S_SELECTION, Selection(type=type_, target=target, r=Rectangle(*area)))
