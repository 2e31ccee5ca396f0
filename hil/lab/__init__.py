# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines to test: kernels, guest images, boards."""
