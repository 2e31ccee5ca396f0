# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory classes: buffers made on purpose and proven to be what they are called."""
