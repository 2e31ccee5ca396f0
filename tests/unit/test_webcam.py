# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python webcam, driven as vhci-hcd and uvcvideo drive it; no kernel is asked."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.evidence import pictures
from hil.silicon.webcam import descriptors, usbip
from hil.silicon.webcam.camera import Camera
from hil.silicon.webcam.descriptors import Model, parse
from hil.silicon.webcam.usbip import Connection, free_port
from hil.system import webcam

BULK = "bulk,200,YUYV+NV12+GREY+MJPG,320x240+640x480"
ISO = "isochronous,1000,YUYV,64x48"
PROBE, COMMIT = 1, 2


class Host:
    """vhci-hcd's end of the connection, and a camera at the other that is served as it is asked."""

    def __init__(self, model: Model) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(5)
        self.camera = Camera(model, "7", Connection(theirs))
        self.sequence = 0
        self.to_device: set[int] = set()
        self.packets: list[int] = []

    def submit(
        self, endpoint: int, length: int, setup: bytes = bytes(8), data: bytes | None = None,
        packets: int = 0,
    ) -> int:  # fmt: skip
        self.sequence += 1
        if data is not None:
            self.to_device.add(self.sequence)
        self.socket.sendall(
            struct.pack(
                ">IIIIIIiiii8s", 1, self.sequence, 0x10001, int(data is None), endpoint, 0,
                length, 0, packets or -1, 1, setup,
            )
            + (data or b"")
            + b"".join(struct.pack(">IIII", 3072 * i, 3072, 0, 0) for i in range(packets))
        )  # fmt: skip
        self.camera.take()
        return self.sequence

    def result(self) -> tuple[int, int, bytes]:
        """Sequence number, status and data of the next answer."""
        head = struct.unpack(">IIIIIiiiii8x", self.read(48))
        command, sequence, status, length, packets = head[0], head[1], head[5], head[6], head[8]
        if command == 4:
            return sequence, status, b""
        data = self.read(length) if length and sequence not in self.to_device else b""
        rooms = [struct.unpack(">IIII", self.read(16)) for _ in range(packets)]
        if packets:
            self.packets = [room[2] for room in rooms]
            assert sum(self.packets) == length
        return sequence, status, data

    def read(self, length: int) -> bytes:
        return self.socket.recv(length, socket.MSG_WAITALL)

    def control(self, kind: int, request: int, value: int, index: int, wants: int | bytes) -> bytes:
        """A control transfer; ConnectionResetError for a stall."""
        out = wants if isinstance(wants, bytes) else None
        length = len(out) if out is not None else int(wants)  # type: ignore[arg-type]
        setup = struct.pack("<BBHHH", kind, request, value, index, length)
        self.submit(0, length, setup, out)
        _, status, data = self.result()
        if status:
            raise ConnectionResetError(status)
        return data

    def commit(self, format_index: int = 1, frame_index: int = 1) -> bytes:
        wish = struct.pack("<HBB22x", 1, format_index, frame_index)
        self.control(0x21, 1, PROBE << 8, 1, wish)
        agreed = self.control(0xA1, 0x81, PROBE << 8, 1, 26)
        self.control(0x21, 1, COMMIT << 8, 1, agreed)
        return agreed

    def payloads(self) -> Iterator[bytes]:
        while True:
            self.submit(1, descriptors.BULK_PAYLOAD)
            while self.camera.wait():
                pass
            self.camera.send()
            yield self.result()[2]

    def frame(self) -> bytes:
        """As uvcvideo puts it together (uvc_video_decode_bulk)."""
        frame = b""
        for payload in self.payloads():
            frame += payload[payload[0] :]
            if payload[1] & 2:
                return frame
        raise AssertionError


@pytest.fixture
def host() -> Host:
    return Host(parse(BULK))


def chain(data: bytes) -> list[bytes]:
    """Descriptors one after another, each as long as it says."""
    found = []
    while data:
        assert 2 <= data[0] <= len(data)
        found.append(data[: data[0]])
        data = data[data[0] :]
    return found


@pytest.mark.parametrize("model", [BULK, ISO])
def test_descriptors_are_as_long_as_they_say(model: str) -> None:
    parts = chain(descriptors.configuration(parse(model)))
    assert struct.unpack_from("<H", parts[0], 2)[0] == sum(map(len, parts))
    streams = [i for i, d in enumerate(parts) if d[:3] == b"\x0e\x24\x01" or d[1:3] == b"\x24\x01"]
    header = parts[streams[-1]]
    after = parts[streams[-1] + 1 :]
    own = [d for d in after if d[1] == 0x24]
    assert struct.unpack_from("<H", header, 4)[0] == len(header) + sum(map(len, own))
    assert chain(descriptors.device())[0][0] == 18


def test_every_format_is_offered_in_every_size() -> None:
    parts = chain(descriptors.configuration(parse(BULK)))
    frames = [d for d in parts if d[1] == 0x24 and d[2] in (5, 7) and len(d) == 30]
    sizes = [struct.unpack_from("<HH", d, 5) for d in frames]
    assert sizes == [(320, 240), (640, 480)] * 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("usb3,200,YUYV,320x240", "found transfer 'usb3', expected bulk or isochronous"),
        ("bulk,200,H264,320x240", "found format 'H264', expected some of YUYV"),
        ("bulk,200,YUYV,321x240", "found size '321x240', expected multiples of 16"),
        ("bulk,fast,YUYV,320x240", "invalid literal"),
    ],
)
def test_a_model_that_cannot_be_says_why(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)


def test_it_says_who_it_is(host: Host) -> None:
    assert host.control(0x80, 6, 1 << 8, 0, 18) == descriptors.device()
    texts = [host.control(0x80, 6, 3 << 8 | i, 0x409, 255)[2:].decode("utf-16-le") for i in (1, 3)]
    assert texts == [webcam.MANUFACTURER, "7"]


def test_what_it_does_not_have_is_stalled(host: Host) -> None:
    with pytest.raises(ConnectionResetError):
        host.control(0x80, 6, 6 << 8, 0, 10)  # device qualifier
    with pytest.raises(ConnectionResetError):
        host.control(0xA1, 0x81, 2 << 8, 0x100, 2)  # a control of the camera terminal


@pytest.mark.parametrize("format_index", [1, 2, 3, 4])
def test_frames_arrive_whole_and_numbered(host: Host, format_index: int) -> None:
    agreed = host.commit(format_index, 2)
    of = host.camera.model.shape(format_index, 2)
    assert struct.unpack_from("<I", agreed, 18)[0] == of.size
    for number in (1, 2, 3):
        frame = host.frame()
        assert pictures.webcam_number(frame, of) == number
        assert frame == pictures.webcam(number, of)


def test_a_new_stream_begins_with_a_whole_frame(host: Host) -> None:
    host.commit()
    next(host.payloads())
    host.commit()
    assert host.frame() == pictures.webcam(2, host.camera.model.shape(1, 1))


def test_a_spoilt_frame_is_the_next_one_only(host: Host) -> None:
    of = host.camera.model.shape(1, 1)
    host.commit()
    host.camera.fault = "flip"
    flipped, right = host.frame(), pictures.webcam(1, of)
    assert flipped[:-1] == right[:-1]
    assert flipped[-1] ^ right[-1] == 1
    host.camera.fault = "short"
    assert host.frame() == pictures.webcam(2, of)[:-100]
    assert host.frame() == pictures.webcam(3, of)


def test_requests_are_kept_while_it_holds_and_given_back_when_asked(host: Host) -> None:
    host.commit()
    host.camera.held = True
    kept = host.submit(1, descriptors.BULK_PAYLOAD)
    host.camera.send()
    assert host.camera.wait() is None
    for expected in (-104, 0):  # -ECONNRESET, then it is not there any more
        host.sequence += 1
        host.socket.sendall(struct.pack(">IIIIIi24x", 2, host.sequence, 0x10001, 0, 1, kept))
        host.camera.take()
        assert host.result() == (host.sequence, expected, b"")


def test_a_request_that_is_taken_back_before_it_comes_is_not_answered_twice(host: Host) -> None:
    host.commit()
    victim = host.sequence + 1
    head = struct.pack(">IIIIIi24x", 2, 900, 0x10001, 0, 1, victim)
    host.socket.sendall(head)
    host.camera.take()
    host.submit(1, descriptors.BULK_PAYLOAD)
    assert host.result() == (900, -104, b"")
    host.camera.send()
    assert host.camera.wait() is None, "it was kept all the same"


def test_isochronous_packets_hold_a_frame_and_then_nothing() -> None:
    host = Host(parse(ISO))
    host.commit()
    host.submit(1, 8 * 3072, packets=8)
    host.camera.send()
    _, _, data = host.result()
    of = host.camera.model.shape(1, 1)
    assert host.packets[:3] == [3072, 3072, 6]
    frame = data[2:3072] + data[3074:6144] + data[6146:6150]
    assert frame == pictures.webcam(1, of)


def test_the_end_of_the_connection_is_told(host: Host) -> None:
    host.socket.close()
    with pytest.raises(EOFError):
        host.camera.take()


def test_the_first_free_high_speed_port_is_taken() -> None:
    status = (
        "hub port sta spd dev      sockfd local_busid\n"
        "hs  0000 006 003 00010001 000003 1-1\n"
        "hs  0001 004 000 00000000 000000 0-0\n"
        "ss  0008 004 000 00000000 000000 0-0\n"
    )
    assert free_port(status) == 1
    with pytest.raises(OSError, match="port"):
        free_port(status.replace(" 004 ", " 006 "))


def test_plugging_in_hands_over_one_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text("hs  0002 004 000 00000000 000000 0-0\n")
    monkeypatch.setattr(usbip, "VHCI", tmp_path)
    connection, port = usbip.plug()
    order = (tmp_path / "attach").read_text().split()
    assert (port, order[0], order[2:]) == (2, "2", [str(0x10003), "3"])
    connection.close()


def test_plugging_in_waits_for_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("hs  0000 006 003 00010001 000003 1-1\n")
    monkeypatch.setattr(usbip, "VHCI", tmp_path)
    later = threading.Timer(0.05, status.write_text, ("hs  0000 004 000 00000000 000000 0-0\n",))
    later.start()
    connection, port = usbip.plug()
    assert port == 0
    connection.close()
    later.join()
    status.write_text("")
    monkeypatch.setattr(usbip, "PATIENCE", 0.05)
    with pytest.raises(OSError, match="every high-speed port"):
        usbip.plug()


def test_a_python_webcam_is_known_by_its_usb_strings(tmp_path: Path) -> None:
    device = tmp_path / "usb1/1-1"
    interface = device / "1-1:1.0"
    interface.mkdir(parents=True)
    for name, text in {"idVendor": "1d6b", "manufacturer": "userptr-hil", "serial": "3"}.items():
        (device / name).write_text(text + "\n")
    node = tmp_path / "class/video4"
    node.mkdir(parents=True)
    (node / "device").symlink_to(interface)
    assert webcam.usb_device(Path("/dev/video4"), tmp_path / "class") == device
    assert webcam.serial_of(Path("/dev/video4"), tmp_path / "class") == "3"
    (device / "manufacturer").write_text("Somebody\n")
    assert webcam.serial_of(Path("/dev/video4"), tmp_path / "class") is None
    assert webcam.serial_of(Path("/dev/video5"), tmp_path / "class") is None


def test_orders_are_answered_or_refused_with_the_reason() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(webcam.address("test-orders"))
        listening.listen()

        def obey() -> None:
            for answer in (b"done", b"error it is not plugged in"):
                line, _ = listening.accept()
                with line:
                    line.recv(64)
                    line.send(answer)

        thread = threading.Thread(target=obey)
        thread.start()
        assert webcam.order("test-orders", "hold") == "done"
        with pytest.raises(OSError, match="can't go: it is not plugged in"):
            webcam.order("test-orders", "go")
        thread.join()
