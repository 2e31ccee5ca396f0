# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are on a Gaudi: addresses, registers, packets.

Sources: drivers/accel/habanalabs/include/gaudi/ (gaudi.h, gaudi_packets.h, gaudi_reg_map.h,
asic_reg/*_regs.h), include/hw_ip/mmu/mmu_v1_1.h, include/common/cpucp_if.h, hl_boot_if.h, of v6.12.
"""

from __future__ import annotations

import struct

VENDOR, DEVICE_SECURED = 0x1DA3, 0x1010
"""PCI_IDS_GAUDI_SEC.  Its firmware has set up the iATU, so no ELBI window in configuration space is
asked for, which a transport with 256 bytes of it could not give."""
CLASS_ACCELERATOR = 0x120000
MIB = 1 << 20
EXPRESS = struct.pack("<BBHIHHIHH", 0x10, 0, 0x0002, 0x8000, 0, 0, 0x43 | 16 << 4, 0, 0x103)
"""A PCI Express capability: version 2, endpoint, 8 GT/s by 16 (include/uapi/linux/pci_regs.h)."""

# BARs (gaudi_pci_bars_map): SRAM, configuration, HBM.  The first two must have just these sizes.
SRAM_BAR, CONFIG_BAR, HBM_BAR = 0, 2, 4
SRAM_SIZE, CONFIG_SIZE, HBM_SIZE = 64 * MIB, 128 * MIB, 512 * MIB
CONFIG_OFFSET = 0x4000000
"""Of CFG_BASE in its BAR; registers below are relative to it."""

# The device's own address space.
SRAM_BASE, CONFIG_BASE = 0x7FF0000000, 0x7FFC000000
HOST_BASE = 1 << 39
"""HOST_PHYS_BASE: the device's address of the host's physical address 0."""
VIRTUAL_BASE = 0x1000000000000
"""VA_HOST_SPACE_START: from here on addresses go through the MMU."""
CPU_MASK = (1 << 39) - 1
"""The embedded CPU's 40-bit addresses: the bits above come from CPU_MSB."""

# Boot of the embedded CPU, static firmware load (hl_fw_static_init_cpu).
BOOT_STATUS, KMD_MESSAGE, COMMAND_STATUS = 0xC4B300, 0xC4B304, 0xC4B15C
BOOT_ERROR = 0xC4B160
WAITING_FOR_BOOT_FIT, SRAM_AVAILABLE, DRAM_INIT_FAILED = 16, 3, 9
BOOT_FIT_READY, MESSAGE_OK = 2, 1
RESET_ALL = 0xC4B498

# Queue of messages to the embedded CPU (CPU-CP).
CPU_MSB, CPU_QUEUE_PI, CPU_QUEUE_LOW, CPU_QUEUE_HIGH = 0x44212C, 0x442200, 0x442204, 0x442208
CPU_QUEUE_INIT, READY_FOR_HOST = 0x442230, 2
QUEUE_ENTRIES, ENTRY_SIZE = 4096, 16

# MMU and its translation cache.
MMU_BUSY, MMU_ASID, HOP0_LOW, HOP0_HIGH, INVALIDATE = (
    0xC12000,
    0xC12004,
    0xC12008,
    0xC1200C,
    0xC1203C,
)

# Interrupts: a write to either sends the device's MSI.
MSI_REGISTERS, MSI_REQUEST = range(0xC13000, 0xC13100), 0xC04100

# Queue managers of the DMA channels, four streams each.
QUEUE_MANAGERS = range(0x508000, 0x508000 + 8 * 0x20000)
QUEUE_MANAGER_STRIDE = 0x20000
BASE_LOW, BASE_HIGH, PRODUCER, CONSUMER = 0x70, 0x80, 0xA0, 0xB0  # + 4 * stream

IDLE = 0x0FFFFFFF


def reads_idle(register: int) -> bool:
    """Registers that tell of an engine without work: QM GLBL_STS0 and CGM_STS, TPC CFG_STATUS (its
    pipes empty), MME ARCH_STATUS."""
    return (
        (register & 0x8FFF) in (0x8038, 0x8C74)
        or (register & 0xFFFF) == 0x691C
        or (register & ~0x180000) == 0x60000
    )


# Packets of a command buffer: opcode -> bytes; one of opcode WREG_BULK has its own rule.
WREG_BULK, MSG_LONG, MSG_PROT, LIN_DMA = 2, 3, 7, 9
PACKET_SIZES = {
    1: 8, MSG_LONG: 16, 4: 8, 5: 16, 6: 8, MSG_PROT: 16, 8: 8, LIN_DMA: 24, 10: 8, 11: 8, 12: 8,
    13: 8, 15: 16,
}  # fmt: skip
LIN_DMA_MEMSET = 1 << 4

# CPU-CP packets (struct cpucp_packet).
FENCE = 0xFE8CE7A5
"""CPUCP_PACKET_FENCE_VAL."""
RESULT_BITS = 0xF000
GET_INFO, GETTERS = 14, frozenset({3, 4, 5, 6, 19, 20, 29, 32})
"""CPUCP_PACKET_INFO_GET, and packets that ask for one number: sensors, frequencies, power."""
INFO_KERNEL_VERSION = 1024
"""Offset of kernel_version in struct cpucp_info, behind 128 sensors."""
