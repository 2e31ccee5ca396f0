# SPDX-License-Identifier: GPL-2.0-or-later
"""A USB webcam for the kernel's own vhci-hcd, usbcore and uvcvideo.

``python -m hil.silicon.webcam`` plugs one in.  It needs neither hardware nor anything of QEMU:
usbip's virtual host controller takes one end of a socket pair, and a process at the other end
answers.  It runs in a guest of the virtual lab or on any machine with vhci-hcd, and a snapshot of
the guest holds it too.
"""
