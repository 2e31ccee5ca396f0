# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumb buffers of DRM devices as include/uapi/drm/drm.h and drm_mode.h have them."""

from __future__ import annotations

import ctypes
import fcntl

from ioctl_opt import IOWR


class CreateDumb(ctypes.Structure):
    """struct drm_mode_create_dumb."""

    _fields_ = (
        ("height", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("bpp", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("pitch", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
    )


class MapDumb(ctypes.Structure):
    """struct drm_mode_map_dumb."""

    _fields_ = (
        ("handle", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
    )


class Version(ctypes.Structure):
    """struct drm_version."""

    _fields_ = (
        ("version_major", ctypes.c_int),
        ("version_minor", ctypes.c_int),
        ("version_patchlevel", ctypes.c_int),
        ("name_len", ctypes.c_size_t),
        ("name", ctypes.c_void_p),
        ("date_len", ctypes.c_size_t),
        ("date", ctypes.c_void_p),
        ("desc_len", ctypes.c_size_t),
        ("desc", ctypes.c_void_p),
    )


DRM_IOCTL_VERSION = IOWR(ord("d"), 0x00, Version)
DRM_IOCTL_MODE_CREATE_DUMB = IOWR(ord("d"), 0xB2, CreateDumb)
DRM_IOCTL_MODE_MAP_DUMB = IOWR(ord("d"), 0xB3, MapDumb)


def driver(fd: int) -> str:
    """The driver's name: vgem, vkms, i915, ..."""
    name = ctypes.create_string_buffer(64)
    wanted = Version(name_len=len(name), name=ctypes.addressof(name))
    fcntl.ioctl(fd, DRM_IOCTL_VERSION, wanted)
    return name.value.decode()


def create_dumb(fd: int, length: int) -> tuple[int, int]:
    """A dumb buffer of ``length`` bytes or more: its offset for mmap, and its size in bytes.

    It goes when ``fd`` is closed and the last mapping is gone.
    """
    width = 1024
    rows = -(-length // (width * 4))
    request = CreateDumb(height=rows, width=width, bpp=32)
    fcntl.ioctl(fd, DRM_IOCTL_MODE_CREATE_DUMB, request)
    where = MapDumb(handle=request.handle)
    fcntl.ioctl(fd, DRM_IOCTL_MODE_MAP_DUMB, where)
    return int(where.offset), int(request.size)
