# SPDX-License-Identifier: GPL-2.0-or-later
"""The two Samsung G2D: what the cells say of the real drivers, and that wrong data is seen.

The first time the drivers are built, for which headers and source come through apt.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from exynos_parts import compare

from hil.lab import board, kernels
from hil.lab.drivers import sources
from hil.lab.progress import quiet
from tests.lab.driving import Run, finished

EXYNOS, S5P = "exynos-g2d-renderd128", "v4l2-s5p-g2d-video0"
EXPECTED = {
    f"{EXYNOS}/thp-part/capture/steady": ("ok", None),
    f"{EXYNOS}/thp-part/output/steady": ("ok", None),
    f"{EXYNOS}/anonymous-apart/capture/steady": ("corrupt", "g2d-first-segment-only"),
    f"{EXYNOS}/resized-same-address/capture/steady": ("leak", "g2d-userptr-leaks"),
    f"{S5P}/thp-part/capture/steady": ("ok", None),
    f"{S5P}/thp-part/output/steady": ("ok", None),
    f"{S5P}/anonymous-apart/capture/selection-beyond-frame": (
        "corrupt", "s5p-g2d-selection-unchecked",
    ),
    f"{S5P}-4-pages/anonymous-apart/capture/steady": ("ok", None),
}  # fmt: skip


def test_the_drivers_pin_and_their_defects_are_found(tmp_path: Path) -> None:
    words = " or ".join(EXPECTED)
    status, output = finished(
        "run", "--board", "virtual-exynos", "--out", tmp_path, "--jobs", 1, "-k", words
    )
    assert status == 0, output
    run = Run(tmp_path)
    found = {r["cell"]: (r["verdict"], r["known"] and r["known"]["id"]) for r in run.records}
    # Which cell comes first in a boot shows the warning that comes once a boot.
    once = [cell for cell, told in found.items() if told[1] == "g2d-refcount-to-zero"]
    assert found == {**EXPECTED, **{cell: found[cell] for cell in once}}
    assert all(cell.startswith(EXYNOS) for cell in once)
    moved = {r["cell"]: r["evidence"]["data"] for r in run.records}
    assert moved[f"{S5P}/thp-part/capture/steady"]["bytes"] == 4096
    refused = f"{S5P}-4-pages/anonymous-apart/capture/steady"
    assert {r["cell"]: r["evidence"]["errno"] for r in run.records}[refused] == "EFAULT"
    told = {d["name"]: d["corrections"] for d in run.meta["built_drivers"]}
    assert "u32 data[]" in told["exynosdrm"][0]
    assert told["v4l2_mem2mem"] == []
    assert "corrected: struct g2d_cmdlist" in " ".join(output.split())


def test_the_uapi_is_that_of_the_kernels_headers(tmp_path: Path) -> None:
    kernel = kernels.get("debian:6.12")
    headers = sources.headers(kernel, quiet)
    (common,) = headers.parent.glob("*-common")
    compare(common / "include/uapi/drm/exynos_drm.h", tmp_path)


@pytest.mark.parametrize("pinner", [EXYNOS, S5P])
def test_a_model_that_spoils_a_bit_is_seen(tmp_path: Path, pinner: str) -> None:
    machine = board.load("virtual-exynos").machine
    assert machine is not None
    models = "".join(
        f'[[machine.silicon]]\nmodel = "g2d"\ntransport = "registers"\naddress = "{s.address}"\n'
        f'interrupt = "{s.interrupt}"\noptions = {{ corrupt = "yes" }}\n'
        for s in machine.silicon
    )
    file = tmp_path / "spoilt.toml"
    file.write_text(f'base = "virtual-exynos"\nname = "spoilt"\n{models}')
    status, output = finished(
        "run", "--board", file, "--out", tmp_path, "-k", f"{pinner}/thp-part/"
    )
    assert status == 1, output
    for record in Run(tmp_path).records:
        assert record["evidence"]["data"]["corrupt_bytes"] == 1
        assert "1 of" in record["reason"] or "corrupt" in record["reason"]
