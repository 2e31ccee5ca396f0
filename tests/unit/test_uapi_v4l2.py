# SPDX-License-Identifier: GPL-2.0-or-later
"""Our V4L2 structures and numbers against the compiler's view of the system's videodev2.h."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_controls, v4l2_sizes

# v4l2-python3's names for the same place.
RENAMED = {"input": "reserved2", "secs": "tv_sec", "usecs": "tv_usec"}
# It has grown at its end (6.12 on: width, height, bytesperline); nothing of ours takes its size.
GROWN = {"v4l2_meta_format"}


def places(kind: Any, base: int = 0, path: str = "") -> Iterator[tuple[str, int, int]]:
    """(C member path, offset, size) of every member that holds a value."""
    for name, type_, *_ in kind._fields_:
        if name in ("reserved", "raw_data", "win"):
            continue  # padding, and what nobody here uses
        offset = base + getattr(kind, name).offset
        # v4l2-python3 names C's anonymous unions _u.
        inner = path if name == "_u" else f"{path}.{RENAMED.get(name, name)}".lstrip(".")
        if hasattr(type_, "_fields_"):
            yield from places(type_, offset, inner)
        else:
            yield inner, offset, ctypes.sizeof(type_)


def constants() -> dict[str, int]:
    """Every name of the modules that the header must have too."""
    return {
        name: value
        for name, value in {**vars(uapi), **vars(v4l2_controls), **vars(v4l2_sizes)}.items()
        if name.startswith(("VIDIOC_", "V4L2_")) and isinstance(value, int)
    }


def ours() -> dict[str, int]:
    found = {f"number {name}": value for name, value in constants().items()}
    for name, kind in {
        **uapi.STRUCTURES,
        **v4l2_controls.STRUCTURES,
        **v4l2_sizes.STRUCTURES,
    }.items():
        if name not in GROWN:
            found[f"sizeof {name}"] = ctypes.sizeof(kind)
        for path, offset, size in places(kind):
            found[f"offset {name} {path}"] = offset
            found[f"size {name} {path}"] = size
    return found


def program(keys: list[str]) -> str:
    lines = [
        "#include <stddef.h>",
        "#include <stdio.h>",
        "#include <linux/videodev2.h>",
        "int main(void) {",
    ]
    for key in keys:
        what, name, *rest = key.split(" ")
        value = {
            "number": f"(unsigned int)({name})",
            "sizeof": f"sizeof(struct {name})",
            "offset": f"offsetof(struct {name}, {rest[0] if rest else ''})",
            "size": f"sizeof(((struct {name} *)0)->{rest[0] if rest else ''})",
        }[what]
        lines.append(f'  printf("{key}=%llu\\n", (unsigned long long)({value}));')
    return "\n".join([*lines, "  return 0;", "}", ""])


def test_every_size_offset_and_number_is_the_headers(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang to compare with linux/videodev2.h")
    expected = ours()
    source = tmp_path / "view.c"
    source.write_text(program(list(expected)))
    built = subprocess.run(
        [compiler, "-o", tmp_path / "view", source], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    output = subprocess.run([tmp_path / "view"], capture_output=True, text=True, check=True).stdout
    theirs = {key: int(value) for key, _, value in (x.partition("=") for x in output.splitlines())}
    assert {
        key: (value, theirs[key]) for key, value in expected.items() if theirs[key] != value
    } == {}
    assert len(theirs) == len(expected) > 150


def test_the_comparison_walks_into_unions_and_nested_structures() -> None:
    keys = set(ours())
    assert {
        "offset v4l2_format fmt.sdr.buffersize",
        "offset v4l2_format fmt.meta.buffersize",
        "offset v4l2_format fmt.pix_mp.num_planes",
        "offset v4l2_buffer m.userptr",
        "offset v4l2_plane m.userptr",
        "offset v4l2_buffer timestamp.tv_sec",
        "offset v4l2_requestbuffers capabilities",
        "offset v4l2_capability device_caps",
        "number VIDIOC_PREPARE_BUF",
        "number VIDIOC_EXPBUF",
        "number VIDIOC_CREATE_BUFS",
    } <= keys


def test_numbers_are_unsigned_32_bits() -> None:
    assert all(0 <= value <= 0xFFFFFFFF for value in constants().values())


def test_ioctl_raises_with_the_calls_errno() -> None:
    with Path("/dev/null").open("rb") as null, pytest.raises(OSError, match="Inappropriate ioctl"):
        uapi.querycap(null.fileno())


@pytest.mark.parametrize(
    ("kind", "fill", "sizes"),
    [
        (uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE, {"pix.sizeimage": 460800}, (460800,)),
        (uapi.V4L2_BUF_TYPE_SLICED_VBI_OUTPUT, {"sliced.io_size": 3072}, (3072,)),
        (uapi.V4L2_BUF_TYPE_SDR_CAPTURE, {"sdr.buffersize": 262144}, (262144,)),
        (uapi.V4L2_BUF_TYPE_META_OUTPUT, {"meta.buffersize": 32}, (32,)),
        (uapi.V4L2_BUF_TYPE_VBI_CAPTURE, {"vbi.samples_per_line": 1440}, (1440 * 36,)),
        (uapi.V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE, {"pix_mp.num_planes": 2}, (4096, 2048)),
    ],
)
def test_plane_sizes_come_from_the_member_of_the_type(
    kind: int, fill: dict[str, int], sizes: tuple[int, ...]
) -> None:
    format_ = uapi.Format(type=kind)
    if kind == uapi.V4L2_BUF_TYPE_VBI_CAPTURE:
        format_.fmt.vbi.count[0] = format_.fmt.vbi.count[1] = 18
    if kind in uapi.MULTI_PLANAR:
        for plane, size in enumerate(sizes):
            format_.fmt.pix_mp.plane_fmt[plane].sizeimage = size
    for path, value in fill.items():
        member, _, field = path.partition(".")
        setattr(getattr(format_.fmt, member), field, value)
    assert uapi.plane_sizes(format_) == sizes


def test_plane_sizes_of_an_overlay_are_an_error() -> None:
    with pytest.raises(ValueError, match="buffer type 3"):
        uapi.plane_sizes(uapi.Format(type=3))


def test_a_multi_planar_buffer_keeps_its_planes_alive() -> None:
    buffer = uapi.new_buffer(uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE, 0, 2, 3)
    buffer.kept[2].length = 77
    assert buffer.length == 3
    assert uapi.plane_lengths(buffer) == (0, 0, 77)


def test_the_whole_pixel_format_lies_over_the_union() -> None:
    format_ = uapi.Format(type=uapi.V4L2_BUF_TYPE_VIDEO_CAPTURE)
    whole = uapi.pix_format(format_)
    whole.sizeimage, whole.xfer_func = 5, 7
    assert format_.fmt.pix.sizeimage == 5
    assert bytes(format_)[uapi.Format.fmt.offset + uapi.PixFormat.xfer_func.offset] == 7
