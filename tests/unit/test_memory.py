# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory classes: the registry, the proofs, and every class made for real where that can be."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil.cells import Direction
from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory import anonymous, base, hugetlb, proof
from hil.memory.base import HUGE, PAGE, Buffer
from hil.memory.bench import Bench
from hil.system import hugepages, numa
from hil.system.guard import Guard
from hil.uapi import drm, mm, udmabuf, userfaultfd

LENGTH = 113 * PAGE - 16
"""A frame of vivid's, and no multiple of a page."""

_NAMES = """
anonymous anonymous-untouched anonymous-zero-page anonymous-large-folio anonymous-unaligned
two-mappings anonymous-apart thp thp-part thp-two
hugetlb-2m-private hugetlb-2m-shared hugetlb-2m-memfd
hugetlb-2m-untouched hugetlb-2m-readonly hugetlb-64k-private hugetlb-32m-private
hugetlb-1g-private hugetlb-1g-shared hugetlb-1g-memfd
shared-anonymous shared-anonymous-thp memfd memfd-large-folio memfd-thp tmpfs tmpfs-thp sysv
memfd-future-write-seal memfd-readonly-shared memfd-write-sealed-shared memfd-sealed-private
memfd-secret ext4-private-untouched ext4-private-cowed ext4-shared ext4-private-readonly
ext4-shared-readonly ext4-private-untouched-large-folio ext4-shared-large-folio ext4-shared-pmd
xfs-private-untouched xfs-private-cowed xfs-shared xfs-private-readonly xfs-shared-readonly
xfs-private-untouched-large-folio xfs-shared-large-folio xfs-shared-pmd btrfs-private-untouched
btrfs-private-cowed btrfs-shared btrfs-private-readonly btrfs-shared-readonly
btrfs-private-untouched-large-folio btrfs-shared-large-folio btrfs-shared-pmd fsdax-ext4-shared
fsdax-ext4-private fsdax-ext4-private-cowed fsdax-ext4-second-vma fsdax-ext4-shared-pmd
fsdax-xfs-shared fsdax-xfs-private fsdax-xfs-private-cowed fsdax-xfs-second-vma
fsdax-xfs-shared-pmd device-dax pci-bar v4l2-mmap-buffer udmabuf drm-dumb-buffer readonly-private
readonly-shared prot-none thp-prot-none prot-none-shared prot-none-middle unmapped-first
unmapped-middle unmapped-last memfd-beyond-eof ext4-beyond-eof ext4-private-beyond-eof
userfaultfd-handler userfaultfd-user-mode-only userfaultfd-sigbus anonymous-movable memfd-movable
thp-movable
hugetlb-2m-movable thp-cma ksm swapped-out cow-shared-with-child over-memlock guard-pages
below-stack kernel-address address-wrap null-pointer zero-length too-short remapped-same-address
resized-same-address
"""
NAMES = _NAMES.split()

# What any kernel from 5.10 on can make, as root, on any machine.
_ALWAYS = """
anonymous anonymous-untouched anonymous-zero-page anonymous-unaligned shared-anonymous memfd tmpfs
sysv memfd-future-write-seal memfd-readonly-shared memfd-write-sealed-shared memfd-sealed-private
readonly-private readonly-shared prot-none prot-none-shared prot-none-middle unmapped-first
unmapped-middle unmapped-last memfd-beyond-eof cow-shared-with-child over-memlock below-stack
kernel-address address-wrap null-pointer zero-length too-short remapped-same-address
"""
ALWAYS = _ALWAYS.split()

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="page frames are shown to root only")


def in_child(body: Callable[[], object]) -> dict[str, object]:
    """{"made": what ``body`` returns} from a child that ends as a cell's does, or {"error": ..}."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            result: object
            try:
                result = {"made": body()}
            except NotApplicableError as error:
                result = {"not_applicable": error.reason}
            except BaseException as error:
                result = {"error": repr(error)}
            os.write(write, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(write)
    data = b""
    while part := os.read(read, 65536):
        data += part
    os.close(read)
    os.waitpid(pid, 0)
    found = json.loads(data) if data else {"error": "the child died"}
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    guard = Guard.start()
    yield guard
    assert guard.close()


@pytest.fixture(scope="module")
def machine(guard: Guard) -> Bench:
    return Bench.find({}, guard)


def make(machine: Bench, name: str, length: int = LENGTH) -> Buffer:
    return base.all_classes()[name].make(machine, length, Direction.CAPTURE)


def test_the_registry_is_the_list_of_the_specification() -> None:
    assert list(base.all_classes()) == NAMES


def test_every_class_says_what_it_is() -> None:
    for name, found in base.all_classes().items():
        assert found.name == name
        assert found.summary and len(found.summary) < 90
        assert found.family in base.FAMILIES


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        base.register("anonymous", "again", anonymous.anonymous, "anonymous")


@as_root
@pytest.mark.parametrize("name", NAMES)
def test_each_class_is_made_and_proven_or_says_why_not(
    name: str, machine: Bench, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("hugetlb-1g"):
        monkeypatch.setattr(machine, "guard", None)  # 1 GiB is not taken from a busy machine

    def body() -> object:
        buffer = make(machine, name)
        found = [buffer.length, buffer.pages, buffer.proof, buffer.facts]
        if buffer.settle:
            buffer.settle()
        buffer.close()
        buffer.close()
        return found

    result = in_child(body)
    assert "error" not in result, result
    if "not_applicable" in result:
        assert name not in ALWAYS, result
        pytest.skip(str(result["not_applicable"]))
    made = result["made"]
    assert isinstance(made, list)
    length, pages, shown, _ = made
    assert shown, "no proof"
    if name == "zero-length":
        assert (length, pages) == (0, 0)
    elif name == "too-short":
        assert (length, pages) == (LENGTH // 2, -(-LENGTH // 2 // PAGE))
    else:
        assert length >= LENGTH
        assert pages >= 113


@as_root
@pytest.mark.parametrize("length", [1, PAGE, HUGE + 5 * PAGE])
def test_any_length_will_do(length: int, machine: Bench) -> None:
    for name in base.all_classes():
        if name.startswith(("hugetlb-1g", "ksm")):
            continue

        def body(name: str = name) -> object:
            return make(machine, name, length).length

        result = in_child(body)
        assert "error" not in result, (name, result)
        if name in ALWAYS and name not in ("zero-length", "too-short"):
            made = result["made"]
            assert isinstance(made, int)
            assert made >= length, name


@as_root
def test_without_rights_a_class_is_not_applicable_at_worst() -> None:
    def body() -> object:
        os.setgid(65534)
        os.setuid(65534)
        pr_set_dumpable = 4  # lost with the user id, and /proc/self with it
        ctypes.CDLL(None).prctl(pr_set_dumpable, 1)
        found = {}
        lonely = Bench.find({})
        for name in base.all_classes():
            found[name] = in_child(lambda name=name: bool(make(lonely, name).proof))  # type: ignore[misc]
        return found

    result = in_child(body)
    made = result["made"]
    assert isinstance(made, dict)
    assert {name: r for name, r in made.items() if "error" in r} == {}
    assert "CAP_SYS_ADMIN" in made["anonymous"]["not_applicable"]
    assert made["null-pointer"] == {"made": True}


def test_without_a_guard_the_machine_stays_as_it_is(machine: Bench) -> None:
    pool = hugepages.pool(HUGE)
    if pool is None:
        pytest.skip("no huge pages of 2 MiB")
    with pytest.raises(NotApplicableError, match="nr_hugepages"):
        hugetlb.need(Bench(), HUGE, pool.available + 1)
    assert hugepages.pool(HUGE) == pool


class TestProofs:
    """A proof that cannot fail proves nothing."""

    pytestmark = as_root

    def test_single_pages_are_no_folios(self) -> None:
        buffer = anonymous.filled(16 * PAGE)
        with pytest.raises(NotApplicableError, match="folios of 64 KiB"):
            proof.folios(buffer.address, buffer.length, 16 * PAGE)
        with pytest.raises(NotApplicableError, match="wanted by the test"):
            proof.large(buffer.address, buffer.length, "wanted by the test")
        buffer.close()

    def test_touched_pages_are_not_absent(self) -> None:
        buffer = anonymous.filled(4 * PAGE)
        with pytest.raises(NotApplicableError, match="4 touched"):
            proof.absent(buffer.address, buffer.length)
        buffer.close()

    def test_one_missing_page_is_seen(self) -> None:
        buffer = anonymous.filled(4 * PAGE)
        mm.madvise(buffer.address + PAGE, PAGE, mm.MADV_DONTNEED)
        with pytest.raises(NotApplicableError, match="pages 4, present 3"):
            anonymous.prove_single(buffer.address, buffer.length)
        buffer.close()

    def test_the_zero_page_is_no_page_of_its_own(self) -> None:
        address, length = anonymous.single_pages(2 * PAGE)
        base.fill(address, PAGE)
        base.populate(address + PAGE, PAGE)
        with pytest.raises(NotApplicableError, match="zero_page"):
            anonymous.prove_single(address, length)
        mm.munmap(address, length)

    def test_huge_pages_are_not_single_and_part_of_one_is_seen(self, machine: Bench) -> None:
        try:
            buffer = make(machine, "thp", HUGE)
        except NotApplicableError as error:
            pytest.skip(error.reason)
        with pytest.raises(NotApplicableError, match="single anonymous pages"):
            anonymous.prove_single(buffer.address, buffer.length)
        with pytest.raises(NotApplicableError, match="folios of 64 KiB"):
            proof.folios(buffer.address, buffer.length, 64 * mm.KIB)
        mm.mprotect(buffer.address, PAGE, mm.PROT_READ)  # the PMD becomes a page table
        with pytest.raises(NotApplicableError, match="AnonHugePages"):
            proof.huge_mapped(buffer.address, buffer.length, "AnonHugePages", "huge pages")
        buffer.close()

    def test_hugetlb_pages_of_the_wrong_size_are_seen(self) -> None:
        buffer = anonymous.filled(PAGE)
        with pytest.raises(NotApplicableError, match="pages of 4096 bytes"):
            hugetlb.prove(buffer.address, PAGE, HUGE)
        buffer.close()

    def test_smaps_of_an_address_is_that_mapping_only(self) -> None:
        low = mm.mmap(PAGE, mm.PROT_READ, address=base.reserve(PAGE))
        fields = proof.smaps(low)
        assert fields["Perms"] == "r--p"
        assert fields["Size"] == PAGE
        mm.munmap(low, PAGE)
        assert proof.smaps(low) == {}
        stack = ctypes.addressof(ctypes.c_int())
        assert proof.smaps(stack)["Perms"] == "rw-p"


@as_root
class TestBehaviour:
    def test_fill_is_the_pattern(self, machine: Bench) -> None:
        length = 600 * mm.KIB + 7
        buffer = make(machine, "memfd", length)
        assert ctypes.string_at(buffer.address, length) == base.pattern(length)
        assert base.pattern(100, 777) == base.pattern(877)[777:]
        buffer.close()

    def test_remapping_changes_every_frame_behind_the_same_pointer(self, machine: Bench) -> None:
        buffer = make(machine, "remapped-same-address")
        before = frames.frames(buffer.address, buffer.length)
        # Something has to hold the old pages, as a driver would: else they may come back.
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        assert buffer.settle is not None
        buffer.settle()
        after = frames.frames(buffer.address, buffer.length)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        assert not set(before) & set(after)
        assert buffer.facts["changed_frames"] == len(after)
        buffer.close()

    def test_the_handler_serves_while_the_main_thread_waits_in_the_kernel(
        self, machine: Bench
    ) -> None:
        try:
            buffer = make(machine, "userfaultfd-handler")
        except NotApplicableError as error:
            pytest.skip(error.reason)
        assert mm.readable(buffer.address + 5 * PAGE)
        assert buffer.facts["faults_served"] == 1
        assert None not in frames.frames(buffer.address, buffer.length)
        assert ctypes.string_at(buffer.address, buffer.length) == base.pattern(buffer.length)
        buffer.close()

    def test_the_sharing_child_holds_no_descriptor_and_goes_at_close(self, machine: Bench) -> None:
        held = os.open("/dev/null", os.O_RDONLY)
        buffer = make(machine, "cow-shared-with-child")
        child = buffer.proof["child"]
        names = [str(fd.readlink()) for fd in Path(f"/proc/{child}/fd").iterdir()]
        assert [name.split(":")[0] for name in names] == ["pipe", "pipe"]
        buffer.close()
        os.close(held)
        assert not Path(f"/proc/{child}").exists()

    def test_ordinary_classes_stay_off_the_movable_node(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[int, int | None]] = []
        monkeypatch.setattr(mm, "set_mempolicy", lambda mode, node=None: asked.append((mode, node)))
        monkeypatch.setattr(numa, "_preferred", None)
        zones = [frames.Zone(0, "Normal", 1, 1 << 40), frames.Zone(2, "Movable", 1 << 40, 1 << 41)]
        monkeypatch.setattr(frames, "_zones", zones)
        found = Bench.find({})
        assert (found.movable_node, found.plain_node) == (2, 0)
        assert asked == [(mm.MPOL_PREFERRED, 0)]
        asked.clear()
        with pytest.raises(
            NotApplicableError, match="113 pages in 2/Movable, it gave 0/Normal 113"
        ):
            make(found, "anonymous-movable")
        assert asked == [(mm.MPOL_PREFERRED, 2), (mm.MPOL_PREFERRED, 0)]


@pytest.mark.parametrize(
    ("address", "length", "pages"),
    [(0, 0, 0), (0, 1, 1), (PAGE - 1, 2, 2), (PAGE, PAGE, 1), (123, 4 * PAGE, 5)],
)
def test_pages_that_a_buffer_touches(address: int, length: int, pages: int) -> None:
    assert Buffer(address, length).pages == pages


def test_buffers_never_lie_side_by_side() -> None:
    first, second = base.reserve(PAGE), base.reserve(PAGE)
    assert second - first >= 2 * HUGE
    assert base.reserve(PAGE, mm.GIB) % mm.GIB == 0


def test_pages_can_be_asked_to_move_and_bound() -> None:
    address = base.place(2 * PAGE)
    base.fill(address, 2 * PAGE)
    mm.mbind(address, 2 * PAGE, mm.MPOL_PREFERRED, 0)
    result, status = mm.move_pages([address, address + PAGE], 0)
    assert (result, status) == (0, [0, 0])
    mm.munmap(address, 2 * PAGE)
    with pytest.raises(OSError, match="Invalid argument"):
        mm.mbind(address + 1, PAGE, mm.MPOL_PREFERRED, 0)


@pytest.mark.parametrize(
    ("number", "known"),
    [
        (userfaultfd.UFFDIO_API, 0xC018AA3F),
        (userfaultfd.UFFDIO_REGISTER, 0xC020AA00),
        (userfaultfd.UFFDIO_COPY, 0xC028AA03),
        (userfaultfd.UFFDIO_ZEROPAGE, 0xC020AA04),
        (udmabuf.UDMABUF_CREATE, 0x40187542),
        (drm.DRM_IOCTL_MODE_CREATE_DUMB, 0xC02064B2),
        (drm.DRM_IOCTL_MODE_MAP_DUMB, 0xC01064B3),
        (drm.DRM_IOCTL_VERSION, 0xC0406400),
    ],
)
def test_ioctl_numbers_of_64_bit_machines(number: int, known: int) -> None:
    assert number == known
