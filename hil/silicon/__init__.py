# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models in Python: the hardware that a virtual board's drivers talk to.

A model is a class that knows nothing of QEMU: a `PciDevice` (hil/silicon/device.py) or a
`RegisterDevice` (hil/silicon/registers.py).  A transport puts it before a guest.  Each model of a
board runs as a process of its own, ``python -m hil.silicon``, which hil/lab/silicon.py starts and
ends with the guest.
"""
