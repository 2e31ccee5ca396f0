# SPDX-License-Identifier: GPL-2.0-or-later
"""Does KVM really run a guest here?  /dev/kvm may be there (nested hosts), and yet none runs.

A guest of 512 bytes is the probe.  It goes where a kernel goes first: real mode, paging, long mode,
memory; it uses an instruction that KVM's own emulator does not know, and counts to twenty million,
which takes a processor a hundredth of a second and that emulator a minute: on some nested hosts KVM
emulates each instruction, and a kernel there comes as far as the first cmpxchg16b.  Then it writes
to QEMU's debug-exit port, which ends QEMU with a status that nothing else gives.

A kernel may still find what the probe did not: see `distrust`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from hil.lab import cache
from hil.lab.hosttools import environment, find

LIMIT = 3.0  # seconds; the probe takes 0.2 s where KVM works
_QEMU = "qemu-system-x86_64"
_DEVICE = Path("/dev/kvm")

# GNU as, at 0x7c00 (16 bits: .code16):
#   cli; cld; xorw %ax,%ax; movw %ax,%ds; movw %ax,%es; movw %ax,%ss; movw $0x7c00,%sp
#   movw $0x1000,%di; movw $0x1800,%cx; rep stosw                      # three empty page tables
#   movw $0x2003,0x1000; movw $0x3003,0x2000; movw $0x83,0x3000        # 2 MiB mapped 1:1
#   movl %cr4,%eax; orb $0x20,%al; movl %eax,%cr4                      # CR4.PAE
#   movl $0x1000,%eax; movl %eax,%cr3
#   movl $0xc0000080,%ecx; rdmsr; orb $1,%ah; wrmsr                    # EFER.LME
#   lgdtw gdtr; movl $0x80000001,%eax; movl %eax,%cr0; ljmpw $8,$long  # CR0.PG, CR0.PE
# long:                                                                # .code64
#   movl $0x10000,%edi; movl $0x2a,%eax; movq %rax,(%rdi); addq %rax,(%rdi); movq (%rdi),%rax
#   pushq %rax; xorl %edx,%edx; xorl %ecx,%ecx; movl %eax,%ebx; lock cmpxchg16b (%rdi)
#   movl $20000000,%ecx; 2: decl %ecx; jnz 2b
#   popq %rax; subl $0x2a,%eax; outb %al,$0xf4; 1: hlt; jmp 1b
#   .balign 8; gdt: .quad 0, 0x00209a0000000000; gdtr: .word 15; .long gdt; .org 510; .word 0xaa55
_CODE = bytes.fromhex(
    "fafc31c08ed88ec08ed0bc007cbf0010b90018f3abc70600100320c70600200330c70600"
    "3083000f20e00c200f22e066b8001000000f22d866b9800000c00f3280cc010f300f0116"
    "a07c66b8010000800f22c0ea587c0800bf00000100b82a000000488907480107488b0750"
    "31d231c989c3f0480fc70fb9002d3101ffc975fc5883e82ae6f4f4ebfd0f1f8000000000"
    "000000000000000000000000009a20000f00907c0000"
)
GUEST = _CODE.ljust(510, b"\0") + b"\x55\xaa"
_ANSWER = 0x2A << 1 | 1  # isa-debug-exit ends QEMU with (value << 1) | 1


def kvm_works() -> tuple[bool, str]:
    """Whether a guest can run under KVM, and a sentence that says why or why not.

    The probe's answer is remembered for this QEMU, processor and host kernel; rights are looked at
    each time.
    """
    qemu = find(_QEMU)
    if qemu is None:
        return False, f"{_QEMU} is not installed"
    if platform.machine() != "x86_64":
        return False, f"this machine is {platform.machine()}: x86-64 guests are emulated"
    if not _DEVICE.exists():
        return False, "there is no /dev/kvm: no virtualisation in this processor or firmware"
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return False, "/dev/kvm may not be opened: add yourself to the group kvm"
    memo = cache.root() / "kvm" / f"{_key(qemu)}.json"
    kept = cache.read_json(memo)
    if isinstance(kept, dict) and isinstance(kept.get("works"), bool):
        return kept["works"], str(kept["why"])
    works, why = probe(qemu, "kvm")
    cache.write_json(memo, {"works": works, "why": why})
    return works, why


def distrust(why: str) -> str:
    """Remember that KVM does not serve here although the probe's guest ran; the reason for it."""
    if (qemu := find(_QEMU)) is not None:
        cache.write_json(cache.root() / "kvm" / f"{_key(qemu)}.json", {"works": False, "why": why})
    return why


def processor() -> str:
    """The processor and all that it can do: what guests started from one snapshot must share."""
    lines: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        # arm64 has "Features", and numbers instead of a name
        if name.strip() in ("model name", "flags", "microcode", "Features", "CPU part"):
            lines.setdefault(name.strip(), value.strip())
    return repr(sorted(lines.items()))


def _key(qemu: Path) -> str:
    status = qemu.resolve().stat()
    host = (platform.release(), platform.version(), processor())
    parts = (GUEST, str(qemu), status.st_size, status.st_mtime_ns, *host)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def probe(qemu: Path, accelerator: str, limit: float = LIMIT) -> tuple[bool, str]:
    """Run the probe's guest; whether it answered within ``limit`` seconds, and what was seen."""
    with tempfile.TemporaryDirectory(prefix="hil-kvm-") as folder:
        disk = Path(folder, "probe.img")
        disk.write_bytes(GUEST)
        command = [
            *(str(qemu), "-accel", accelerator, "-machine", "pc", "-m", "16"),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
            *("-drive", f"file={disk},format=raw,if=ide,readonly=off"),
        ]
        began = time.monotonic()
        with subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                said = process.communicate(timeout=limit)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return False, (
                    f"a guest of 512 bytes did not end within {limit:g} s: /dev/kvm is there, but "
                    "does not run guests (common on nested hosts)"
                )
            except BaseException:
                process.kill()
                raise
    if process.returncode == _ANSWER:
        return True, f"the probe's guest answered in {time.monotonic() - began:.1f} s"
    lines = said.decode(errors="replace").strip().splitlines()
    return False, f"QEMU ended with {process.returncode}: {lines[-1] if lines else 'no word'}"
