# SPDX-License-Identifier: GPL-2.0-or-later
"""hil/judge.py: evidence that produces each verdict, and the order of precedence."""

from __future__ import annotations

from typing import Any

import pytest
from judge_parts import (
    ACCEPTED,
    EFAULT,
    LEFT,
    OTHER_WARNING,
    PAGES,
    checked,
    count,
    evidence,
    judged,
    unfinished,
)

from hil.verdicts import Verdict

# Every verdict: a memory class, evidence that produces it, and words of the reason.
EXAMPLES: list[tuple[Verdict, str, dict[str, Any], str]] = [
    (Verdict.OK, "anonymous", ACCEPTED, "VIDIOC_QBUF accepted it, as it must"),
    (Verdict.OK, "readonly-private", EFAULT, "VIDIOC_QBUF gave EFAULT, as it must"),
    (
        Verdict.WRONGLY_ACCEPTED,
        "readonly-private",
        ACCEPTED,
        "VIDIOC_QBUF accepted it, expected EFAULT: without FOLL_FORCE",
    ),
    (
        Verdict.WRONGLY_REFUSED,
        "anonymous",
        EFAULT,
        "VIDIOC_QBUF gave EFAULT, expected success: private anonymous memory",
    ),
    (
        Verdict.WRONG_ERRNO,
        "fsdax-ext4-shared",
        EFAULT,
        "VIDIOC_QBUF gave EFAULT, expected EOPNOTSUPP",
    ),
    (Verdict.LEAK, "anonymous", evidence(pins=LEFT), "2 pins are still held at the end"),
    (
        Verdict.LEAK,
        "unmapped-middle",
        evidence("EFAULT", pins={"during": count(2), "after": count(0, 2)}),
        "2 pins are held after the refusal, expected 0",
    ),
    (
        Verdict.MISCOUNTED,
        "anonymous",
        evidence(pins={"during": count(1), "after": count(0, 1)}),
        "1 pins while held, expected 113 for the buffer's pages",
    ),
    (
        Verdict.MISCOUNTED,
        "anonymous",
        evidence(pins={"during": count(PAGES), "after": count(-3, PAGES)}),
        "3 more pins were released than acquired",
    ),
    (Verdict.MOVED, "anonymous", evidence(moved_pages=7), "7 of 113 pages changed their frame"),
    (
        Verdict.STAYED,
        "anonymous-movable",
        evidence(zone="1/Movable", unsuitable_pages=PAGES),
        "113 of 113 pages are pinned in ZONE_MOVABLE",
    ),
    (
        Verdict.CORRUPT,
        "anonymous",
        evidence(data={"corrupt_bytes": 12, "stale": False}),
        "12 bytes are wrong",
    ),
    (
        Verdict.CORRUPT,
        "anonymous",
        evidence(data={"failed": "ETIMEDOUT: no frame came"}),
        "no data arrived: the device gave ETIMEDOUT",
    ),
    (
        Verdict.STALE,
        "anonymous",
        evidence(data={"corrupt_bytes": 0, "stale": True}),
        "the device has other pages than the process",
    ),
    (
        Verdict.STALE,
        "anonymous",
        evidence(second_pin={"errno": None, "acquired": 0, "changed_frames": PAGES}),
        "the second pin took no pages although 113 frames had changed",
    ),
    (
        Verdict.NOT_HELD,
        "memfd",
        evidence(condition=checked("F_SEAL_WRITE while pinned", "0", "EBUSY")),
        "F_SEAL_WRITE while pinned: 0, expected EBUSY",
    ),
    (
        Verdict.HANG,
        "userfaultfd-handler",
        unfinished("pin", hung=True),
        "VIDIOC_QBUF did not come back within the deadline",
    ),
    (
        Verdict.HANG,
        "anonymous",
        unfinished("release", hung=True, killed=False),
        "stage 'release' after VIDIOC_QBUF did not end within the deadline and can't be killed",
    ),
    (
        Verdict.HANG,
        "anonymous",
        {"machine_lost": "hang", "console": []},
        "the machine hung in stage 'open' and was reset",
    ),
    (
        Verdict.CRASH,
        "anonymous",
        {
            "stage": "machine",
            "machine_lost": "crash",
            "console": [
                "[   21.000001] BUG: kernel NULL pointer dereference",
                "[   21.000002] RIP: 0010:put_vaddr_frames+0x2d/0x70 [videobuf2_common]",
                "[   21.000003] Kernel panic - not syncing: Fatal exception",
            ],
        },
        "the machine went down: BUG: kernel NULL pointer dereference"
        " at put_vaddr_frames+0x2d/0x70 [videobuf2_common]",
    ),
    (
        Verdict.KERNEL_WARNING,
        "anonymous",
        evidence(log=OTHER_WARNING),
        "the kernel said: [   12.400000] WARNING: CPU: 1 PID: 300 at mm/gup.c:229",
    ),
    (
        Verdict.KERNEL_WARNING,
        "anonymous",
        evidence(taint={"before": 0, "after": 1 << 5}),
        "the kernel became tainted (B: bad page)",
    ),
    (
        Verdict.KERNEL_WARNING,
        "anonymous",
        unfinished("pin", signal=9) | {"log": ["BUG: unable to handle page fault"]},
        "the cell's process died of signal 9 in stage 'pin': BUG: unable to handle page fault",
    ),
    (Verdict.NO_RULE, "moon-dust", ACCEPTED, "the vb2-vmalloc table has no row for moon-dust"),
    (
        Verdict.NOT_APPLICABLE,
        "memfd-secret",
        evidence(stage="make", setup={"not_applicable": "boot with secretmem.enable=1"}),
        "boot with secretmem.enable=1",
    ),
    (
        Verdict.HARNESS_ERROR,
        "anonymous",
        evidence(stage="make", setup={"error": "OSError: no room\n"}),
        "stage 'make' failed: OSError: no room",
    ),
    (
        Verdict.HARNESS_ERROR,
        "anonymous",
        unfinished("make", signal=11),
        "the cell's process died of signal 11 in stage 'make'",
    ),
    (
        Verdict.HARNESS_ERROR,
        "anonymous",
        unfinished("open", hung=True),
        "the deadline passed in stage 'open'",
    ),
    (
        Verdict.HARNESS_ERROR,
        "anonymous",
        unfinished("hold", exit=3),
        "the cell's process ended with status 3 in stage 'hold'",
    ),
]


@pytest.mark.parametrize(("verdict", "memory", "found", "reason"), EXAMPLES)
def test_every_verdict(verdict: Verdict, memory: str, found: dict[str, Any], reason: str) -> None:
    result = judged(memory, found)
    assert result.verdict is verdict
    assert reason in result.reason
    assert "\n" not in result.reason
    assert result.known is None


def test_no_verdict_is_left_out() -> None:
    assert {verdict for verdict, *_ in EXAMPLES} == set(Verdict)


def test_the_judgement_carries_its_rule() -> None:
    result = judged("anonymous", ACCEPTED)
    assert result.rule is not None
    assert result.rule.id == "anonymous"


# --- conditions -----------------------------------------------------------------------------------


def test_a_check_that_holds_is_nothing_and_one_that_does_not_names_its_verdict() -> None:
    fine = checked("pins held after STREAMOFF", 113, 113, verdict="leak")
    assert judged("anonymous", evidence(condition=fine)).verdict is Verdict.OK
    bad = checked("pins held after the buffers were freed", 4, 0, verdict="leak")
    assert judged("anonymous", evidence(condition=bad)).verdict is Verdict.LEAK


def test_pages_that_the_process_gave_up_have_not_moved() -> None:
    gave_up = checked("", "0", "0") | {"frames_stay": False, "data": "lost"}
    found = evidence(condition=gave_up, moved_pages=7, data={"kept_old_pages": True})
    assert judged("anonymous", found).verdict is Verdict.OK
    found["data"] = {"kept_old_pages": False}
    assert judged("anonymous", found).verdict is Verdict.CORRUPT


def test_a_condition_may_ask_for_a_refusal() -> None:
    refusal = {"errnos": ["ENOMEM", "EFAULT"], "accept": False, "because": "it is held elsewhere"}
    part = checked("", "0", "0") | {"answer": refusal}
    assert judged("anonymous", evidence("ENOMEM", condition=part)).verdict is Verdict.OK
    assert judged("anonymous", evidence("EINVAL", condition=part)).verdict is Verdict.WRONG_ERRNO
    result = judged("anonymous", evidence(condition=part))
    assert result.verdict is Verdict.WRONGLY_ACCEPTED
    assert "it is held elsewhere" in result.reason


@pytest.mark.parametrize(
    ("family", "gave", "verdict"),
    [
        ("vb2-vmalloc", "EFAULT", Verdict.OK),
        ("vb2-vmalloc", "ENOMEM", Verdict.WRONG_ERRNO),
        ("vb2-dma-sg", "ENOMEM", Verdict.OK),
        ("vb2-dma-sg", "EFAULT", Verdict.WRONG_ERRNO),
        ("vb2-dma-sg", "accepted", Verdict.OK),
    ],
)
def test_errnos_that_a_condition_expects_are_seen_as_the_driver_tells_them(
    family: str, gave: str, verdict: Verdict
) -> None:
    part = checked("the call", gave, "accepted", "EFAULT", verdict="wrong-errno")
    assert judged("anonymous", evidence(condition=part), family=family).verdict is verdict
    refusal = {"errnos": ["EFAULT"], "accept": False, "because": "it is held elsewhere"}
    part = checked("", "0", "0") | {"answer": refusal}
    found = None if gave == "accepted" else gave
    expected = Verdict.WRONGLY_ACCEPTED if found is None else verdict
    assert judged("anonymous", evidence(found, condition=part), family=family).verdict is expected


@pytest.mark.parametrize(
    ("gave", "words", "scattered", "verdict"),
    [
        ("accepted", [], False, Verdict.OK),
        ("EFAULT", [], False, Verdict.WRONGLY_REFUSED),
        ("EFAULT", [], True, Verdict.OK),
        ("EINVAL", [], True, Verdict.WRONG_ERRNO),
        ("accepted", [], True, Verdict.WRONGLY_ACCEPTED),
        ("accepted", ["accepted"], True, Verdict.OK),
        ("EFAULT", ["accepted"], True, Verdict.OK),
    ],
)
def test_a_further_call_answers_as_the_rules_say_of_its_memory(
    gave: str, words: list[str], scattered: bool, verdict: Verdict
) -> None:
    part = checked("the second call", gave, *words, verdict="wrongly-refused")
    part["checks"][0]["rule"] = {"memory": "anonymous", "facts": {"scattered": scattered}}
    found = evidence(condition=part, frames={"during": {"zones": {}, "contiguous": True}})
    assert judged("anonymous", found, family="vb2-dma-contig").verdict is verdict
    elsewhere = judged("anonymous", found, family="vb2-dma-contig", kernel="5.4").verdict
    assert elsewhere is Verdict.NO_RULE  # nothing is expected where nothing is said


def test_a_condition_may_make_the_memory_like_another_class() -> None:
    part = checked("", "0", "0") | {"answer": {"like": "userfaultfd-handler"}}
    assert judged("anonymous", evidence("EFAULT", condition=part), "6.1.176").verdict is Verdict.OK
    assert judged("anonymous", evidence(condition=part), "6.12.117").verdict is Verdict.OK
    refused = judged("anonymous", evidence("EFAULT", condition=part), "6.12.117")
    assert refused.verdict is Verdict.WRONGLY_REFUSED


# --- precedence -----------------------------------------------------------------------------------


def test_findings_have_an_order_and_are_all_named() -> None:
    found = evidence(pins=LEFT, moved_pages=3, unsuitable_pages=5, log=OTHER_WARNING)
    result = judged("readonly-private", found)
    assert result.verdict is Verdict.KERNEL_WARNING
    assert result.reason.endswith("; also wrongly-accepted, leak, moved, stayed")
    assert judged("readonly-private", found | {"log": []}).verdict is Verdict.WRONGLY_ACCEPTED
    assert judged("anonymous", found | {"log": []}).verdict is Verdict.LEAK


@pytest.mark.parametrize("kernel", ["7.4", "5.4.290"])
def test_a_kernel_outside_the_table_has_no_rule(kernel: str) -> None:
    result = judged("anonymous", ACCEPTED, kernel)
    assert result.verdict is Verdict.NO_RULE
    assert f"goes from kernel 5.10 to 7.3, this is {kernel}" in result.reason


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (evidence(pins=LEFT), Verdict.LEAK),
        (evidence(log=OTHER_WARNING), Verdict.KERNEL_WARNING),
        (evidence(moved_pages=1), Verdict.MOVED),
        (unfinished("pin", hung=True), Verdict.HANG),
        ({"machine_lost": "crash"}, Verdict.CRASH),
        (ACCEPTED, Verdict.NO_RULE),
        (EFAULT, Verdict.NO_RULE),
    ],
)
def test_what_needs_no_rule_wins_over_no_rule(found: dict[str, Any], verdict: Verdict) -> None:
    assert judged("anonymous", found, family="vb3").verdict is verdict


def test_a_hang_is_told_though_the_child_said_nothing() -> None:
    found = unfinished("hold", hung=True) | {"setup": {"error": "said nothing"}}
    assert judged("anonymous", found).verdict is Verdict.HANG


def test_the_errno_of_the_call_never_becomes_a_skip() -> None:
    for errno in ("EOPNOTSUPP", "ENOTTY", "ENOMEM"):
        assert judged("anonymous", evidence(errno)).verdict is Verdict.WRONGLY_REFUSED


# --- evidence -------------------------------------------------------------------------------------


def test_other_planes_are_counted() -> None:
    found = evidence(pins={"during": count(PAGES + 40), "after": count(0, PAGES + 40)})
    found["buffer"] = found["buffer"] | {"companion_pages": 40}
    assert judged("anonymous", found).verdict is Verdict.OK
    found["buffer"] = found["buffer"] | {"companion_pages": 41}
    result = judged("anonymous", found)
    assert result.verdict is Verdict.MISCOUNTED
    assert "expected 113 for the buffer's pages and 41 of other planes" in result.reason


def test_a_migrated_pin_counts_twice_and_is_no_leak() -> None:
    pins = {"during": count(PAGES, 2 * PAGES), "after": count(0, 2 * PAGES)}
    assert judged("anonymous-movable", evidence(pins=pins)).verdict is Verdict.OK


def test_a_refusal_may_count_pins_that_it_gave_back() -> None:
    found = evidence("EFAULT", pins={"during": count(0, 2), "after": count(0, 2)})
    assert judged("ext4-shared", found).verdict is Verdict.OK


@pytest.mark.parametrize("pins", [{}, None, {"before": None, "during": None, "after": None}])
def test_a_kernel_without_counters_is_told(pins: Any) -> None:
    result = judged("anonymous", evidence(pins=pins))
    assert result.verdict is Verdict.OK
    assert result.reason.endswith("pins not judged: this kernel has no nr_foll_pin counters")


def test_page_frames_without_a_pin_are_as_they_must_be() -> None:
    found = evidence(pins={"during": count(0), "after": count(0)})
    assert judged("pci-bar", found, "5.10.157").verdict is Verdict.OK
    assert judged("pci-bar", ACCEPTED, "5.10.157").verdict is Verdict.MISCOUNTED


@pytest.mark.parametrize("bit", [0, 1, 12, 13])
def test_taints_of_modules_are_not_the_drivers_fault(bit: int) -> None:
    found = evidence(taint={"before": 0, "after": 1 << bit})
    assert judged("anonymous", found).verdict is Verdict.OK


@pytest.mark.parametrize("bit", [4, 5, 7, 9, 14, 31])
def test_taints_of_faults_are(bit: int) -> None:
    found = evidence(taint={"before": 0, "after": 1 << bit})
    assert judged("anonymous", found).verdict is Verdict.KERNEL_WARNING
    found = evidence(taint={"before": 1 << bit, "after": 1 << bit})
    assert judged("anonymous", found).verdict is Verdict.OK


def test_a_second_pin_that_took_the_new_pages_is_right() -> None:
    taken = {"errno": None, "acquired": PAGES, "changed_frames": PAGES}
    assert judged("anonymous", evidence(second_pin=taken)).verdict is Verdict.OK
    same = {"errno": None, "acquired": 0, "changed_frames": 0}
    assert judged("anonymous", evidence(second_pin=same)).verdict is Verdict.OK


def test_facts_of_the_buffer_choose_the_rule() -> None:
    found = evidence("EFAULT")
    found["buffer"] = found["buffer"] | {"facts": {"pfnmap": True}}
    assert judged("drm-dumb-buffer", found).verdict is Verdict.OK
    assert judged("drm-dumb-buffer", EFAULT).verdict is Verdict.WRONGLY_REFUSED


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        ("rd wr sh mr mw me ms pf de dd sd", Verdict.OK),
        ("rd wr sh mr mw me ms io de dd mm sd", Verdict.OK),
        ("rd wr sh mr mw me ms de dd mm sd", Verdict.WRONGLY_REFUSED),
    ],
)
def test_the_mappings_flags_tell_whether_it_has_pages(flags: str, verdict: Verdict) -> None:
    found = evidence("EFAULT")
    found["buffer"] = found["buffer"] | {"proof": {"VmFlags": flags}}
    assert judged("drm-dumb-buffer", found).verdict is verdict


def test_the_zone_of_the_pages_chooses_the_rule() -> None:
    refused = evidence("EOPNOTSUPP")
    in_movable = evidence("EOPNOTSUPP", zone="1/Movable")
    assert judged("fsdax-ext4-private-cowed", refused).verdict is Verdict.WRONGLY_REFUSED
    assert judged("fsdax-ext4-private-cowed", in_movable).verdict is Verdict.OK
