# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells whether Linux drivers pin user memory correctly.

A pinner pins a buffer of some memory class while a condition holds; evidence is taken; the rule for
this kernel says what must be; the verdict compares the two.  Nothing in here knows of pytest.
"""
