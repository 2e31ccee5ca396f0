# SPDX-License-Identifier: GPL-2.0-or-later
"""Habana Labs accelerators as include/uapi/drm/habanalabs_accel.h has them, for Gaudi.

Up to 6.7 the calls have numbers of their own (_IOWR('H', nr + 1); up to 6.1 the header is
misc/habanalabs.h and the node /dev/hlN); since the driver is a DRM accel driver they are driver
calls of DRM.  The structures are the same.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import struct
from errno import EIO, ENOTTY, ETIMEDOUT
from typing import Any

from ioctl_opt import IOWR

u32, u64 = ctypes.c_uint32, ctypes.c_uint64

HL_INFO_HW_IP_INFO = 0
HL_INFO_DEVICE_STATUS = 4
HL_CB_OP_CREATE, HL_CB_OP_DESTROY = 0, 1
HL_MEM_OP_MAP, HL_MEM_OP_UNMAP = 2, 3
HL_MEM_USERPTR = 0x4
HL_WAIT_CS_STATUS_COMPLETED, HL_WAIT_CS_STATUS_BUSY = 0, 1
HL_WAIT_CS_STATUS_TIMEDOUT, HL_WAIT_CS_STATUS_ABORTED = 2, 3
GAUDI_QUEUE_ID_DMA_0_0 = 0
"""The channel that reads the host's memory."""
GAUDI_QUEUE_ID_DMA_1_0 = 4
"""The channel that writes the host's memory."""

_IOCTL_INFO, _IOCTL_CB, _IOCTL_CS, _IOCTL_WAIT_CS, _IOCTL_MEMORY = range(5)


class InfoArgs(ctypes.Structure):
    """struct hl_info_args; its union is no concern of ours."""

    _fields_ = (
        ("return_pointer", u64),
        ("return_size", u32),
        ("op", u32),
        ("ctx_id", u32),
        ("pad", u32),
    )


class HwIpInfo(ctypes.Structure):
    """The first fields of struct hl_info_hw_ip_info: the driver copies as much as is asked for."""

    _fields_ = (
        ("sram_base_address", u64),
        ("dram_base_address", u64),
        ("dram_size", u64),
        ("sram_size", u32),
        ("num_of_events", u32),
        ("device_id", u32),
    )


class CbIn(ctypes.Structure):
    """struct hl_cb_in."""

    _fields_ = (
        ("cb_handle", u64),
        ("op", u32),
        ("cb_size", u32),
        ("ctx_id", u32),
        ("flags", u32),
    )


class CbOut(ctypes.Structure):
    """struct hl_cb_out."""

    _fields_ = (("cb_handle", u64),)


class CbArgs(ctypes.Union):
    """union hl_cb_args."""

    _fields_ = (("in", CbIn), ("out", CbOut))


class CsChunk(ctypes.Structure):
    """struct hl_cs_chunk."""

    _fields_ = (
        ("cb_handle", u64),
        ("queue_index", u32),
        ("cb_size", u32),
        ("cs_chunk_flags", u32),
        ("collective_engine_id", u32),
        ("pad", u32 * 10),
    )


class CsIn(ctypes.Structure):
    """struct hl_cs_in."""

    _fields_ = (
        ("chunks_restore", u64),
        ("chunks_execute", u64),
        ("seq", u64),
        ("num_chunks_restore", u32),
        ("num_chunks_execute", u32),
        ("timeout", u32),
        ("cs_flags", u32),
        ("ctx_id", u32),
        ("pad", ctypes.c_uint8 * 4),
    )


class CsOut(ctypes.Structure):
    """struct hl_cs_out, its first fields: the union is as large as CsIn anyway."""

    _fields_ = (("seq", u64), ("status", u32))


class CsArgs(ctypes.Union):
    """union hl_cs_args."""

    _fields_ = (("in", CsIn), ("out", CsOut))


class WaitCsIn(ctypes.Structure):
    """struct hl_wait_cs_in."""

    _fields_ = (
        ("seq", u64),
        ("timeout_us", u64),
        ("ctx_id", u32),
        ("flags", u32),
        ("interrupt_timeout_us", u64),
        ("cq_counters_offset", u64),
        ("timestamp_handle", u64),
        ("timestamp_offset", u64),
    )


class WaitCsOut(ctypes.Structure):
    """struct hl_wait_cs_out, its first fields."""

    _fields_ = (("status", u32), ("flags", u32))


class WaitCsArgs(ctypes.Union):
    """union hl_wait_cs_args."""

    _fields_ = (("in", WaitCsIn), ("out", WaitCsOut))


class MapHost(ctypes.Structure):
    """map_host of struct hl_mem_in."""

    _fields_ = (("host_virt_addr", u64), ("hint_addr", u64), ("mem_size", u64))


class Unmap(ctypes.Structure):
    """unmap of struct hl_mem_in."""

    _fields_ = (("device_virt_addr", u64),)


class _MemWhat(ctypes.Union):
    _fields_ = (("map_host", MapHost), ("unmap", Unmap))


class MemIn(ctypes.Structure):
    """struct hl_mem_in."""

    _anonymous_ = ("what",)
    _fields_ = (
        ("what", _MemWhat),
        ("op", u32),
        ("flags", u32),
        ("ctx_id", u32),
        ("num_of_elements", u32),
    )


class MemOut(ctypes.Structure):
    """struct hl_mem_out."""

    _fields_ = (("device_virt_addr", u64),)


class MemArgs(ctypes.Union):
    """union hl_mem_args."""

    _fields_ = (("in", MemIn), ("out", MemOut))


STRUCTURES: dict[str, Any] = {
    "struct hl_info_args": InfoArgs,
    "struct hl_cb_in": CbIn,
    "union hl_cb_args": CbArgs,
    "struct hl_cs_chunk": CsChunk,
    "struct hl_cs_in": CsIn,
    "union hl_cs_args": CsArgs,
    "struct hl_wait_cs_in": WaitCsIn,
    "union hl_wait_cs_args": WaitCsArgs,
    "struct hl_mem_in": MemIn,
    "union hl_mem_args": MemArgs,
}
"""By C name; the size of each is part of an ioctl's number, or the kernel walks an array of it."""
PREFIXES: dict[str, Any] = {
    "struct hl_info_hw_ip_info": HwIpInfo,
    "struct hl_cb_out": CbOut,
    "struct hl_cs_out": CsOut,
    "struct hl_wait_cs_out": WaitCsOut,
    "struct hl_mem_out": MemOut,
}
"""Structures of which we have the first fields only."""

_ARGUMENTS = {
    _IOCTL_INFO: InfoArgs,
    _IOCTL_CB: CbArgs,
    _IOCTL_CS: CsArgs,
    _IOCTL_WAIT_CS: WaitCsArgs,
    _IOCTL_MEMORY: MemArgs,
}
_DRM_COMMAND_BASE = 0x40
DRM_NUMBERS = {nr: IOWR(ord("d"), _DRM_COMMAND_BASE + nr, kind) for nr, kind in _ARGUMENTS.items()}
"""DRM_IOCTL_HL_*, from 6.8 on."""
OWN_NUMBERS = {nr: IOWR(ord("H"), 1 + nr, kind) for nr, kind in _ARGUMENTS.items()}
"""HL_IOCTL_*, before."""

# A LIN_DMA packet (drivers/accel/habanalabs/include/gaudi/gaudi_packets.h): size, control, source,
# target.  Control: linear, all three barriers, opcode.
_PACKET = struct.Struct("<IIQQ")
_LIN_DMA = 9 << 24 | 1 << 3 | 7 << 29


class Copy:
    """One linear copy: ``size`` bytes between addresses of the device's own space."""

    __slots__ = ("size", "source", "target")

    def __init__(self, source: int, target: int, size: int) -> None:
        self.source, self.target, self.size = source, target, size


class Card:
    """An open node.  Addresses and sizes are bytes; every call raises OSError."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._numbers = DRM_NUMBERS
        try:
            self.info()
        except OSError as error:
            if error.errno != ENOTTY:
                raise
            self._numbers = OWN_NUMBERS

    def _call(self, number: int, arguments: ctypes.Structure | ctypes.Union) -> None:
        fcntl.ioctl(self.fd, self._numbers[number], arguments)

    def info(self) -> HwIpInfo:
        """What the card is, and where its SRAM is."""
        found = HwIpInfo()
        size = ctypes.sizeof(found)
        self._call(
            _IOCTL_INFO,
            InfoArgs(
                return_pointer=ctypes.addressof(found), return_size=size, op=HL_INFO_HW_IP_INFO
            ),
        )
        return found

    def map(self, address: int, size: int) -> int:
        """Pin a range of this process and map it for the device: its device address."""
        arguments = MemArgs()
        request = getattr(arguments, "in")
        request.op, request.flags = HL_MEM_OP_MAP, HL_MEM_USERPTR
        # A pointer may be invalid on purpose; the structure wants 64 bits without a sign.
        request.map_host.host_virt_addr = address & 0xFFFFFFFFFFFFFFFF
        request.map_host.mem_size = size
        self._call(_IOCTL_MEMORY, arguments)
        return int(arguments.out.device_virt_addr)

    def unmap(self, device_address: int) -> None:
        """Unmap and unpin what ``map`` gave."""
        arguments = MemArgs()
        request = getattr(arguments, "in")
        request.op, request.unmap.device_virt_addr = HL_MEM_OP_UNMAP, device_address
        self._call(_IOCTL_MEMORY, arguments)

    def copy(self, queue: int, copies: list[Copy], seconds: float) -> None:
        """Have a DMA channel make the copies, and wait for it.

        OSError with ETIMEDOUT when the device is not done in time, EIO when the driver gave up.
        """
        packets = b"".join(_PACKET.pack(c.size, _LIN_DMA, c.source, c.target) for c in copies)
        handle = self._command_buffer(packets)
        try:
            sequence = self._submit(queue, handle, len(packets))
            self._wait(sequence, seconds)
        finally:
            self._destroy(handle)

    def _command_buffer(self, packets: bytes) -> int:
        size = -(-len(packets) // mmap.PAGESIZE) * mmap.PAGESIZE
        arguments = CbArgs()
        request = getattr(arguments, "in")
        request.op, request.cb_size = HL_CB_OP_CREATE, size
        self._call(_IOCTL_CB, arguments)
        handle = int(arguments.out.cb_handle)
        with mmap.mmap(self.fd, size, offset=handle) as buffer:
            buffer[: len(packets)] = packets
        return handle

    def _destroy(self, handle: int) -> None:
        arguments = CbArgs()
        request = getattr(arguments, "in")
        request.op, request.cb_handle = HL_CB_OP_DESTROY, handle
        self._call(_IOCTL_CB, arguments)

    def _submit(self, queue: int, handle: int, size: int) -> int:
        chunk = CsChunk(cb_handle=handle, queue_index=queue, cb_size=size)
        arguments = CsArgs()
        request = getattr(arguments, "in")
        request.chunks_execute, request.num_chunks_execute = ctypes.addressof(chunk), 1
        self._call(_IOCTL_CS, arguments)
        return int(arguments.out.seq)

    def _wait(self, sequence: int, seconds: float) -> None:
        arguments = WaitCsArgs()
        request = getattr(arguments, "in")
        request.seq, request.timeout_us = sequence, int(seconds * 1e6)
        self._call(_IOCTL_WAIT_CS, arguments)
        status = arguments.out.status
        if status in (HL_WAIT_CS_STATUS_BUSY, HL_WAIT_CS_STATUS_TIMEDOUT):
            raise OSError(ETIMEDOUT, "the submission does not complete")
        if status != HL_WAIT_CS_STATUS_COMPLETED:
            raise OSError(EIO, f"the submission has status {status}")
