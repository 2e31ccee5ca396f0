# SPDX-License-Identifier: GPL-2.0-or-later
"""The G2D of Samsung's DRM driver as include/uapi/drm/exynos_drm.h has it, and its buffers.

STRUCTURES names every structure in use; a unit test compares each of them, and every DRM_, G2D_
and EXYNOS_ name of this module, with what the compiler makes of the header.  Wrappers raise OSError
with the call's errno.
"""

from __future__ import annotations

import ctypes
import fcntl
from typing import Any

from ioctl_opt import IOWR

u32, u64 = ctypes.c_uint32, ctypes.c_uint64


class GemCreate(ctypes.Structure):
    """struct drm_exynos_gem_create."""

    _fields_ = (("size", u64), ("flags", u32), ("handle", u32))


class GemMap(ctypes.Structure):
    """struct drm_exynos_gem_map."""

    _fields_ = (("handle", u32), ("reserved", u32), ("offset", u64))


class GetVer(ctypes.Structure):
    """struct drm_exynos_g2d_get_ver."""

    _fields_ = (("major", u32), ("minor", u32))


class Command(ctypes.Structure):
    """struct drm_exynos_g2d_cmd: a register and what it is set to, or a buffer."""

    _fields_ = (("offset", u32), ("data", u32))


class Userptr(ctypes.Structure):
    """struct drm_exynos_g2d_userptr.  A command names it by 32 bits: it must lie below 4 GiB."""

    _fields_ = (("userptr", ctypes.c_ulong), ("size", ctypes.c_ulong))


class SetCmdlist(ctypes.Structure):
    """struct drm_exynos_g2d_set_cmdlist."""

    _fields_ = (
        ("cmd", u64),
        ("cmd_buf", u64),
        ("cmd_nr", u32),
        ("cmd_buf_nr", u32),
        ("event_type", u64),
        ("user_data", u64),
    )


class Exec(ctypes.Structure):
    """struct drm_exynos_g2d_exec."""

    _fields_ = (("async", u64),)


class DrmEvent(ctypes.Structure):
    """struct drm_event (drm.h)."""

    _fields_ = (("type", u32), ("length", u32))


class Event(ctypes.Structure):
    """struct drm_exynos_g2d_event."""

    _fields_ = (
        ("base", DrmEvent),
        ("user_data", u64),
        ("tv_sec", u32),
        ("tv_usec", u32),
        ("cmdlist_no", u32),
        ("reserved", u32),
    )


STRUCTURES: dict[str, Any] = {
    "drm_exynos_gem_create": GemCreate,
    "drm_exynos_gem_map": GemMap,
    "drm_exynos_g2d_get_ver": GetVer,
    "drm_exynos_g2d_cmd": Command,
    "drm_exynos_g2d_userptr": Userptr,
    "drm_exynos_g2d_set_cmdlist": SetCmdlist,
    "drm_exynos_g2d_exec": Exec,
    "drm_event": DrmEvent,
    "drm_exynos_g2d_event": Event,
}

_COMMANDS = 0x40  # DRM_COMMAND_BASE
DRM_IOCTL_EXYNOS_GEM_CREATE: int = IOWR(ord("d"), _COMMANDS + 0x00, GemCreate)
DRM_IOCTL_EXYNOS_GEM_MAP: int = IOWR(ord("d"), _COMMANDS + 0x01, GemMap)
DRM_IOCTL_EXYNOS_G2D_GET_VER: int = IOWR(ord("d"), _COMMANDS + 0x20, GetVer)
DRM_IOCTL_EXYNOS_G2D_SET_CMDLIST: int = IOWR(ord("d"), _COMMANDS + 0x21, SetCmdlist)
DRM_IOCTL_EXYNOS_G2D_EXEC: int = IOWR(ord("d"), _COMMANDS + 0x22, Exec)
DRM_EXYNOS_G2D_EVENT = 0x80000000

EXYNOS_BO_CONTIG = 0
G2D_BUF_USERPTR = 1 << 31
G2D_EVENT_NOT = 0
G2D_EVENT_NONSTOP = 1


def ioctl(fd: int, number: int, argument: Any) -> None:
    """One ioctl on a ctypes structure, in place.  OSError carries the errno; nothing is retried."""
    fcntl.ioctl(fd, number, argument)


def version(fd: int) -> tuple[int, int]:
    """Major and minor version of the G2D; ENODEV or EINVAL where the driver has none."""
    answer = GetVer()
    ioctl(fd, DRM_IOCTL_EXYNOS_G2D_GET_VER, answer)
    return int(answer.major), int(answer.minor)


def gem_create(fd: int, size: int) -> tuple[int, int]:
    """A physically contiguous buffer of the driver's own: its handle, and its offset for mmap."""
    made = GemCreate(size=size, flags=EXYNOS_BO_CONTIG)
    ioctl(fd, DRM_IOCTL_EXYNOS_GEM_CREATE, made)
    where = GemMap(handle=made.handle)
    ioctl(fd, DRM_IOCTL_EXYNOS_GEM_MAP, where)
    return int(made.handle), int(where.offset)


def set_cmdlist(fd: int, commands: Any, buffers: Any, event: int = G2D_EVENT_NOT) -> None:
    """Append a command list to those that the next `execute` runs.

    ``commands`` and ``buffers`` are arrays of `Command`.  User memory among the buffers is pinned
    here, unless the file knows pointer and size from before.
    """
    request = SetCmdlist(
        cmd=ctypes.addressof(commands), cmd_buf=ctypes.addressof(buffers),
        cmd_nr=len(commands), cmd_buf_nr=len(buffers), event_type=event,
    )  # fmt: skip
    ioctl(fd, DRM_IOCTL_EXYNOS_G2D_SET_CMDLIST, request)


def execute(fd: int, *, wait: bool) -> None:
    """Run the file's command lists; without ``wait`` an event tells when one with an event is done.

    With ``wait`` the call sleeps uninterruptibly until the engine is done.
    """
    request = Exec()
    setattr(request, "async", 0 if wait else 1)
    ioctl(fd, DRM_IOCTL_EXYNOS_G2D_EXEC, request)
