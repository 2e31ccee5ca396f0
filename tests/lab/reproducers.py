# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a guest: each program of /own/programs, one after another; its status and its words."""

import json
import subprocess
from pathlib import Path

for program in sorted(Path("/own/programs").iterdir()):
    ended = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    words = ended.stdout + ended.stderr
    print(json.dumps({program.name: {"status": ended.returncode, "words": words}}), flush=True)
