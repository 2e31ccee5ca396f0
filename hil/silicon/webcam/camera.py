# SPDX-License-Identifier: GPL-2.0-or-later
"""A webcam's behaviour: control requests, and frames that leave when their time has come."""

from __future__ import annotations

import struct
import time

from hil.evidence import pictures
from hil.silicon.webcam import descriptors, usbip
from hil.silicon.webcam.descriptors import Model
from hil.silicon.webcam.usbip import Connection, Unlink, Urb

_SETUP = struct.Struct("<BBHHH")
_HEAD = 2
"""Bytes of a payload's header (2.4.3.2.2): length and flags."""
_EOH, _EOF = 0x80, 0x02
_LATE = 0.1
"""Seconds that frames may be behind their time before it is given up to catch up."""
_SHORT_BY = 100
_SET_CUR, _GET_LEN, _GET_INFO = 0x01, 0x85, 0x86
_PROBE, _COMMIT = 1, 2
_STREAMING = 1
"""The number of the streaming interface."""
_MICROFRAMES = 8000  # a second


class Camera:
    """One webcam at one connection; ``serial`` is what its user tells it from others by."""

    def __init__(self, model: Model, serial: str, connection: Connection) -> None:
        self.model, self.connection = model, connection
        self._strings = descriptors.strings(serial)
        self._probe = descriptors.probe(model)
        self._shape = model.shape(1, 1)
        self._waiting: list[Urb] = []
        self._newest = 0
        """The sequence number of the last URB that came."""
        self._early: dict[int, Unlink] = {}
        self.held = False
        """While true, URBs are kept and not answered."""
        self.fault = ""
        """What is to be wrong with the end of the next frame: "flip" or "short"; once."""
        self.number = 0
        """The last frame that was begun."""
        self._frame = b""
        self._sent = 0
        self._due = 0.0
        self._next_frame = 0.0

    def wait(self) -> float | None:
        """Seconds until there is something to be sent; None when nothing is."""
        if self.held or not self._waiting:
            return None
        return max(0.0, self._due - time.monotonic())

    def take(self) -> None:
        """Read one request of the host and do what it asks; EOFError when the cable is out."""
        request = self.connection.receive()
        if isinstance(request, Unlink):
            self._unlink(request)
            return
        self._newest = request.sequence
        early = self._early.pop(request.sequence, None)
        if early is not None:
            self.connection.unlinked(early, was_waiting=True)
        elif request.endpoint == 0:
            self.connection.answer(request, self._control(request))
        else:
            self._waiting.append(request)

    def _unlink(self, request: Unlink) -> None:
        """Give an URB back.

        The host controller may overtake itself and want one back that it has not sent yet
        (drivers/usb/usbip/vhci_tx.c vhci_tx_loop): that is answered when it comes.
        """
        if request.victim > self._newest:
            self._early[request.victim] = request
            return
        left = [urb for urb in self._waiting if urb.sequence != request.victim]
        self.connection.unlinked(request, was_waiting=len(left) < len(self._waiting))
        self._waiting = left

    def send(self) -> None:
        """Answer the URB that has waited longest, when its time has come."""
        if self.wait() != 0.0:
            return
        urb = self._waiting.pop(0)
        if not urb.packets:
            self.connection.answer(urb, self._payload(urb.length))
            if self._whole:
                self._due = self._next_frame
            return
        # Between two frames there are packets too, with nothing in them.
        packets = [
            b""
            if self._whole and time.monotonic() < self._next_frame
            else self._payload(min(room, descriptors.ISO_PAYLOAD))
            for _, room in urb.packets
        ]
        self.connection.answer_packets(urb, packets)
        late = time.monotonic() - _LATE
        self._due = max(self._due + len(packets) / _MICROFRAMES, late)

    @property
    def _whole(self) -> bool:
        """Whether the frame at hand is sent, or there is none."""
        return self._sent == len(self._frame)

    def _payload(self, room: int) -> bytes:
        """The next payload: its header, and as much of the frame as fits."""
        if self._whole:
            self.number += 1
            self._frame, self._sent = pictures.webcam(self.number, self._shape), 0
            late = time.monotonic() - _LATE
            self._next_frame = max(self._next_frame + 1 / self.model.rate, late)
        part = self._frame[self._sent : self._sent + room - _HEAD]
        self._sent += len(part)
        if self._whole and self.fault:
            short = self.fault == "short"
            part = part[:-_SHORT_BY] if short else part[:-1] + bytes([part[-1] ^ 1])
            self.fault = ""
        flags = _EOH | (_EOF if self._whole else 0) | (self.number & 1)
        return bytes([_HEAD, flags]) + part

    def _control(self, urb: Urb) -> bytes | None:
        """What an URB for endpoint 0 gets; None is a stall."""
        kind, request, value, index, length = _SETUP.unpack(urb.setup)
        if (kind, request) == (0x80, 6):  # GET_DESCRIPTOR
            found = self._descriptor(value >> 8, value & 0xFF)
            return None if found is None else found[:length]
        if kind & 0x60 == 0x20:  # of the video class
            return self._class_request(request, value >> 8, index & 0xFF, length, urb.data)
        if not kind & 0x80:
            return b""  # SET_CONFIGURATION, SET_INTERFACE, CLEAR_FEATURE
        # GET_STATUS, GET_INTERFACE
        return bytes(length) if request in (0, 10) else None

    def _descriptor(self, kind: int, number: int) -> bytes | None:
        if kind == 1:
            return descriptors.device()
        if kind == 2:
            return descriptors.configuration(self.model)
        if kind == 3 and number < len(self._strings):
            text = self._strings[number].encode("utf-16-le") if number else b"\x09\x04"
            return bytes([len(text) + 2, 3]) + text
        return None

    def _class_request(
        self, request: int, control: int, interface: int, length: int, data: bytes
    ) -> bytes | None:
        if interface != _STREAMING or control not in (_PROBE, _COMMIT):
            return None
        if request == _SET_CUR:
            self._probe = descriptors.probe(self.model, data)
            if control == _COMMIT:
                self._begin()
            return b""
        told = {_GET_LEN: struct.pack("<H", len(self._probe)), _GET_INFO: b"\x03"}
        return told.get(request, self._probe)[:length]

    def _begin(self) -> None:
        """A stream begins, and with a whole frame: what was left of the last one is dropped."""
        self._shape = self.model.shape(self._probe[2], self._probe[3])
        self._frame, self._sent = b"", 0
        self._due = self._next_frame = time.monotonic()


def plugged(model: Model, serial: str) -> tuple[Camera, int]:
    """A webcam that is plugged in, and its port; OSError."""
    connection, port = usbip.plug()
    return Camera(model, serial, connection), port
