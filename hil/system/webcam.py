# SPDX-License-Identifier: GPL-2.0-or-later
"""Talking to the Python webcam (hil/silicon/webcam/) behind a video node, where there is one.

Its process listens on an abstract Unix socket named after the USB serial number.  An order is a
word, the answer another:

* ``hold``, ``go``: keep the host's requests unanswered, answer them again;
* ``flip``, ``short``: send the end of the next frame with one bit wrong, or not at all;
* ``unplug``, ``plug``: pull the cable, put it in again;
* ``number``: how many frames were begun.
"""

from __future__ import annotations

import socket
from pathlib import Path

MANUFACTURER = "userptr-hil"
"""The USB manufacturer string of the Python webcam."""
ORDERS = ("hold", "go", "flip", "short", "unplug", "plug", "number")
_SECONDS = 5.0
_CLASS = Path("/sys/class/video4linux")


def address(serial: str) -> str:
    """The socket that the webcam with this serial number listens on."""
    return f"\0{MANUFACTURER}-webcam-{serial}"


def usb_device(node: Path, devices: Path = _CLASS) -> Path | None:
    """The sysfs folder of the USB device that a video node belongs to; None when of another bus."""
    place = (devices / node.name / "device").resolve()
    while place.name:
        if (place / "idVendor").exists():
            return place
        place = place.parent
    return None


def serial_of(node: Path, devices: Path = _CLASS) -> str | None:
    """The serial number of the Python webcam behind a video node; None for any other device."""
    device = usb_device(node, devices)
    try:
        if device is None or (device / "manufacturer").read_text().strip() != MANUFACTURER:
            return None
        return (device / "serial").read_text().strip()
    except OSError:
        return None


def order(serial: str, word: str) -> str:
    """Have the webcam do what ``word`` says; OSError when it does not answer or can't."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(_SECONDS)
        line.connect(address(serial))
        line.send(word.encode())
        answer = line.recv(256).decode()
    if answer.startswith("error "):
        raise OSError(f"the webcam {serial} can't {word}: {answer[6:]}")
    return answer
