# SPDX-License-Identifier: GPL-2.0-or-later
"""Driver recipes, and how a kernel's drivers are built; no compiler and no network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hil.errors import HilError
from hil.lab.archive import Package
from hil.lab.drivers import build, kbuild, recipe, sources, toolchain
from hil.lab.drivers.recipe import ARCHITECTURES, Correction, apply, load
from hil.lab.kernels import Kernel

NAMES = sorted(path.stem for path in recipe.FOLDER.glob("*.toml"))


def kernel(tmp_path: Path, gcc: int = 140200, arch: str = "amd64") -> Kernel:
    config = tmp_path / "config"
    config.write_text(f"CONFIG_CC_IS_GCC=y\nCONFIG_GCC_VERSION={gcc}\n")
    return Kernel(
        "debian:6.12", "6.12.118+deb13-amd64", "6.12.118", arch, tmp_path / "vmlinuz", tmp_path,
        config, None, "identity", "6.12.118-1",
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_of_the_project_loads(name: str) -> None:
    found = load(name)
    assert found.name == name.replace("-", "_")
    assert found.summary
    assert bool(found.sources) != bool(found.own), "from the kernel, or our own"
    for correction in found.correction:
        assert correction.what and correction.because


def test_no_part_of_the_kernel_is_in_the_project() -> None:
    for path in recipe.FOLDER.rglob("*.[ch]"):
        assert "GPL-2.0-or-later" in path.read_text().splitlines()[0], path


def test_only_64_bit_kernels_get_the_drm_driver_corrected() -> None:
    exynos = load("exynosdrm")
    told = {arch: [c.file for c in exynos.corrections(arch)] for arch in ARCHITECTURES}
    assert told == {"amd64": ["exynos_drm_g2d.c"], "arm64": ["exynos_drm_g2d.c"], "armhf": []}
    assert exynos.corrections("amd64", unmodified=True) == []


def test_a_recipe_says_where_it_is_needed_and_with_what() -> None:
    assert load("v4l2-mem2mem").wanted("amd64")
    assert not load("v4l2-mem2mem").wanted("armhf")
    options = load("exynosdrm").options("armhf")
    assert options["DRM_EXYNOS_FIMD"] == "y"
    assert options["DRM_EXYNOS_MIXER"] == "n"


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(HilError, match="no driver recipe 'exynos'") as error:
        load("exynos")
    assert "exynosdrm" in error.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('arch = ["x86"]', "found architecture 'x86'"),
        ('config = ["DRM"]', "found 'DRM'"),
        ('[[correction]]\nwhat = "w"\nbecause = "b"', "'w' changes nothing"),
        ('[[correction]]\nwhat = "w"\nbecause = "b"\nfile = "x.c"', "'w' changes nothing"),
        (
            '[[correction]]\nwhat = "w"\nbecause = "b"\nfile = "x.c"\nedits = [["a"]]',
            "'edits' of 'w'",
        ),
        ("colour = 1", "unknown key 'colour'"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "mine.toml").write_text(f'name = "mine"\nsummary = "s"\n{text}\n')
    monkeypatch.setattr(recipe, "FOLDER", tmp_path)
    with pytest.raises(HilError, match=re.escape(message)):
        load("mine")


def test_a_correction_is_made_where_the_source_is_as_expected(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("one two three")
    apply(Correction("w", "b", file="x.c", edits=(("two", "2"), ("three", "3"))), tmp_path)
    assert source.read_text() == "one 2 3"
    with pytest.raises(HilError, match="'two' 0 times") as error:
        apply(Correction("w", "b", file="x.c", edits=(("two", "2"),)), tmp_path)
    assert "still needed" in error.value.hint
    apply(Correction("w", "b", prelude="#define A 1"), tmp_path)


def test_sources_are_laid_flat_with_options_as_macros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "drivers/x").mkdir(parents=True)
    for name, text in (("x.c", "c"), ("x.h", "h"), ("Makefile", "obj-m"), ("Kconfig", "k")):
        (tree / "drivers/x" / name).write_text(text)
    made = recipe.Recipe("x", "s", ("drivers/x",), config=("X=m", "Y=y", "Z=n"))
    folder = tmp_path / "work"
    build._lay(made, tree, folder)
    build._prelude(made, "amd64", ["#define P"], folder)
    assert sorted(p.name for p in folder.iterdir()) == ["Makefile", "hil-prelude.h", "x.c", "x.h"]
    header = (folder / "hil-prelude.h").read_text().splitlines()
    assert header[-1] == "#define P"
    assert [line for line in header if line.startswith("#define CONFIG")] == [
        "#define CONFIG_X_MODULE 1",
        "#define CONFIG_Y 1",
    ]
    assert "#undef CONFIG_Z" in header
    assert "-include" in (folder / "Makefile").read_text()


def test_the_compiler_is_the_kernels_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"gcc", "gcc-14", "make"}
    monkeypatch.setattr(toolchain.hosttools, "find", lambda n: Path(n) if n in there else None)
    monkeypatch.setattr(toolchain.hosttools, "need", lambda n, *_: Path(n))
    monkeypatch.setattr(toolchain.hosttools, "run", lambda words: f"{said}\n".encode())
    monkeypatch.setattr(toolchain, "host_arch", lambda: "amd64")
    said = "14.2.0"
    found = toolchain.find(kernel(tmp_path))
    assert "CC=gcc-14" in found.variables
    assert not any("ALIGNMENT" in variable for variable in found.variables)
    there.discard("gcc-14")
    said = "12.2.0"
    found = toolchain.find(kernel(tmp_path))
    assert {"CC=gcc", "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT="} <= set(found.variables)
    assert "12.2.0" in found.identity
    found = toolchain.find(kernel(tmp_path, 120200, "armhf"))
    assert {"ARCH=arm", "CC=arm-linux-gnueabihf-gcc", "CROSS_COMPILE=arm-linux-gnueabihf-"} <= set(
        found.variables
    )
    assert found.strip == "arm-linux-gnueabihf-strip"


def test_what_was_built_is_told_with_its_corrections() -> None:
    made = build.Built("x", Path("x.ko"), "linux-source-6.1 6.1.192-2", ("u32 for long",))
    assert made.told() == {
        "name": "x", "source": "linux-source-6.1 6.1.192-2", "corrections": ["u32 for long"],
    }  # fmt: skip


def test_the_compilers_first_error_is_the_reason() -> None:
    said = "  CC x.o\nx.c:1:2: error: no such thing\nmake: *** [x.o] Error 1\n"
    assert kbuild.first_error(said, Path("/work")) == "x.c:1:2: error: no such thing"
    assert kbuild.first_error("a\nb\nc\nd", Path("/work")) == "d"


class Offers:
    """An archive with these versions of any package."""

    def __init__(self, *there: str) -> None:
        self.there = there

    def packages(self, names: list[str]) -> list[Package]:
        return [Package(names[0], version, ("s",), 1, 1, "") for version in self.there]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("6.1.192-1", "6.1.192-2", "6.1.192-3"), "6.1.192-2"),
        (("6.1.176-1", "6.1.192-3", "6.1.192-4"), "6.1.192-3"),  # the kernel's own is gone
        (("6.1.192-1~bpo12+1", "6.1.192-1"), "6.1.192-1"),
    ],
)
def test_another_build_of_the_same_source_serves(there: tuple[str, ...], taken: str) -> None:
    assert sources.beside(Offers(*there), "linux-kbuild-6.1", "6.1.192-2") == taken  # type: ignore[arg-type]


def test_another_source_does_not_serve() -> None:
    with pytest.raises(
        HilError, match=r"no linux-kbuild-6\.1 6\.1\.192-2.*\n.*6\.1\.176-1, 6\.1\.193-1"
    ):
        sources.beside(Offers("6.1.193-1", "6.1.176-1"), "linux-kbuild-6.1", "6.1.192-2")  # type: ignore[arg-type]
