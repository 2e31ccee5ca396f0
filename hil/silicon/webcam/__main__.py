# SPDX-License-Identifier: GPL-2.0-or-later
"""Plugs webcams in and is them until it is ended: ``python -m hil.silicon.webcam MODEL...``."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from pathlib import Path

from hil.silicon.webcam import camera, usbip
from hil.silicon.webcam.camera import Camera
from hil.silicon.webcam.descriptors import Model, parse
from hil.system import webcam

_USAGE = """\
usage: python -m hil.silicon.webcam [--ready FILE] [MODEL...]

Plugs each MODEL into this machine's virtual USB host controller (modprobe vhci-hcd uvcvideo; needs
root) and is it until it is ended by Ctrl-C.  A MODEL is TRANSFER,RATE,FORMATS,SIZES:

  bulk,200,YUYV+NV12+GREY+MJPG,320x240+640x480     the default, in short bulk,200,,
  isochronous,100,YUYV,320x240

FILE is made when every webcam has a video node; it holds their names.
"""
_DEFAULT = "bulk,200,,"
_HOST_SECONDS = 60.0
_NODE_SECONDS = 90.0
_AGAIN_SECONDS = 20.0
"""A webcam without a video node for so long is plugged in once more."""
_LOOK = 0.01
_NODES = Path("/sys/class/video4linux")


class Plug:
    """A webcam, in or out, and the socket that it takes orders at."""

    def __init__(self, model: Model, serial: str) -> None:
        self.model, self.serial = model, serial
        self.camera: Camera | None = None
        self.orders = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.orders.bind(webcam.address(serial))
        self.orders.listen(4)

    def plug(self) -> None:
        if self.camera is None:
            self.camera, _ = camera.plugged(self.model, self.serial)

    def unplug(self) -> None:
        if self.camera is not None:
            self.camera.connection.close()
            self.camera = None

    def obey(self) -> None:
        """Take one order and answer it."""
        line, _ = self.orders.accept()
        with line:
            try:
                answer = self._do(line.recv(256).decode())
            except (OSError, ValueError) as error:
                answer = f"error {error}"
            line.send(answer.encode())

    def _do(self, word: str) -> str:
        if word == "plug":
            self.plug()
            return "plugged"
        if self.camera is None:
            raise ValueError("it is not plugged in")
        if word == "unplug":
            self.unplug()
        elif word in ("hold", "go"):
            self.camera.held = word == "hold"
        elif word in ("flip", "short"):
            self.camera.fault = word
        elif word == "number":
            return str(self.camera.number)
        else:
            raise ValueError(f"there is no such order; known: {', '.join(webcam.ORDERS)}")
        return "done"

    def node(self) -> str | None:
        """The name of its video node; its node for metadata has the index 1."""
        for place in sorted(_NODES.glob("video*")):
            try:
                if (place / "index").read_text().strip() != "0":
                    continue
            except OSError:
                continue  # the folder is there before its files
            if webcam.serial_of(Path(place.name)) == self.serial:
                return place.name if Path("/dev", place.name).exists() else None
        return None


def serve(plugs: list[Plug], ready: str) -> None:
    """Be the webcams for good."""
    deadline = time.monotonic() + _NODE_SECONDS
    again = time.monotonic() + _AGAIN_SECONDS
    announced = False
    while True:
        cameras = [(plug, plug.camera) for plug in plugs if plug.camera is not None]
        waits = [wait for _, one in cameras if (wait := one.wait()) is not None]
        if not announced:
            waits.append(_LOOK)
        sockets = [plug.orders for plug in plugs] + [one.connection for _, one in cameras]
        readable = select.select(sockets, [], [], min(waits, default=None))[0]
        for plug, one in cameras:
            try:
                if one.connection in readable:
                    one.take()
                one.send()
            except (EOFError, OSError):
                plug.unplug()  # the host controller has let go of the port
        for plug in plugs:
            if plug.orders in readable:
                plug.obey()
        if not announced:
            announced = _announce(plugs, ready)
            if not announced and time.monotonic() > deadline:
                sys.exit("webcam: no video node: is uvcvideo loaded?")
            if not announced and time.monotonic() > again:
                again = time.monotonic() + _AGAIN_SECONDS
                for plug in plugs:
                    if plug.node() is None:
                        sys.stderr.write(f"webcam {plug.serial}: no video node, once more\n")
                        plug.unplug()
                        plug.plug()


def _announce(plugs: list[Plug], ready: str) -> bool:
    """Tell the video nodes once all are there; False when some are not yet."""
    nodes = [plug.node() for plug in plugs]
    if None in nodes:
        return False
    text = "".join(
        f"/dev/{node}: webcam {plug.serial}, {plug.model.transfer}\n"
        for node, plug in zip(nodes, plugs, strict=True)
    )
    sys.stdout.write(text)
    sys.stdout.flush()
    if ready:
        fresh = Path(f"{ready}.new")
        fresh.write_text(text)
        fresh.rename(ready)
    return True


def main(arguments: list[str]) -> None:
    ready = ""
    if arguments[:1] == ["--ready"] and len(arguments) > 1:
        ready, arguments = arguments[1], arguments[2:]
    if any(argument.startswith("-") for argument in arguments):
        sys.exit(_USAGE)
    try:
        models = [parse(argument) for argument in arguments or [_DEFAULT]]
    except ValueError as error:
        sys.exit(f"webcam: {error}\n\n{_USAGE}")
    deadline = time.monotonic() + _HOST_SECONDS
    while not usbip.there():  # in a guest the module is being loaded meanwhile
        if not ready or time.monotonic() > deadline:
            sys.exit(
                f"webcam: {usbip.VHCI}/attach can't be written\n"
                "  Load the module vhci-hcd, and be root."
            )
        time.sleep(_LOOK)
    try:
        plugs = [Plug(model, str(number)) for number, model in enumerate(models)]
        for plug in plugs:
            plug.plug()
    except OSError as error:
        sys.exit(f"webcam: {os.strerror(error.errno) if error.errno else error}")
    try:
        serve(plugs, ready)
    except KeyboardInterrupt:
        for plug in plugs:
            plug.unplug()


if __name__ == "__main__":
    main(sys.argv[1:])
