# SPDX-License-Identifier: GPL-2.0-or-later
"""apt-get and apt-cache with a state folder of their own: nothing is installed.

The machine's apt configuration (proxy, certificates) holds; its sources, pins and hooks
do not.  Signatures are checked by apt.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hil.errors import HilError
from hil.lab.hosttools import environment, need, run
from hil.lab.progress import Say

INSTEAD = "Without apt: --kernel deb:FILE[,FILE] or --kernel dir:PATH take a local kernel."


class Apt:
    """apt for one Debian architecture, its state in ``folder``, its sources in `sources`."""

    def __init__(self, folder: Path, arch: str, say: Say) -> None:
        self.folder, self.arch = folder, arch
        self._say = say

    def config(self) -> Path:
        """The configuration file, written when it is not as it should be."""
        file = self.folder / "apt.conf"
        folder = str(self.folder)
        if any(letter in folder for letter in '"\n'):
            raise HilError(f"apt cannot use the folder {folder!r}", "Set XDG_CACHE_HOME.")
        text = f"""\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
#clear APT::Architectures;
APT::Architecture "{self.arch}";
APT::Architectures {{ "{self.arch}"; }};
APT::Get::AllowUnauthenticated "false";
APT::Install-Recommends "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::PDiffs "false";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::State "{folder}/apt";
Dir::State::Lists "{folder}/apt/lists";
Dir::State::status "/dev/null";
Dir::State::extended_states "{folder}/apt/extended_states";
Dir::Cache "{folder}/apt/cache";
Dir::Cache::archives "{folder}/apt/cache/archives";
Dir::Cache::pkgcache "{folder}/apt/cache/pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Log "{folder}/apt";
Dir::Etc::sourcelist "{self.sources}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""
        if os.geteuid() == 0:
            # The cache lies in root's home, which apt's own user may not enter.
            text += 'APT::Sandbox::User "root";\n'
        if not file.exists() or file.read_text() != text:
            for part in ("apt/lists/partial", "apt/cache/archives/partial"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return file

    @property
    def sources(self) -> Path:
        """The sources file that apt reads here."""
        return self.folder / "debian.sources"

    def run(self, program: str, *words: str, only: Path | None = None) -> str:
        """Run ``apt-cache`` or ``apt-get``; what it prints.  ``only``: other sources than all."""
        need(program, INSTEAD)
        command: list[str | Path] = [program, "-c", self.config()]
        return run([*command, *_only(only), *words]).decode()

    def fetch(
        self, words: Sequence[str], what: str, cwd: Path | None = None, only: Path | None = None
    ) -> tuple[int, str]:
        """Run apt-get with progress; its status and everything it said."""
        read, write = os.pipe()
        command = [str(need("apt-get", INSTEAD)), "-c", str(self.config()), "-q"]
        command += ["-o", f"APT::Status-Fd={write}", *_only(only), *words]
        self._say(what)
        with subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(write,),
        ) as process:
            os.close(write)
            assert process.stdout is not None
            try:
                said = self._watch(read, process.stdout.fileno(), what)
            except BaseException:
                process.terminate()
                raise
            finally:
                os.close(read)
        return process.returncode, said

    def _watch(self, status: int, output: int, what: str) -> str:
        said, progress = b"", b""
        for descriptor in (status, output):
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK)
        open_ends = {status, output}
        while open_ends:
            for descriptor in select.select(open_ends, [], [])[0]:
                piece = os.read(descriptor, 65536)
                if not piece:
                    open_ends.discard(descriptor)
                elif descriptor == output:
                    said += piece
                else:
                    progress += piece
                    *lines, progress = progress.split(b"\n")
                    for line in lines:
                        fields = line.split(b":")
                        if fields[0] == b"dlstatus" and len(fields) > 2:
                            self._say(what, float(fields[2]) / 100)
        return said.decode(errors="replace")


def _only(sources: Path | None) -> list[str]:
    """Options that make apt read other sources.

    apt keys its package cache by the sources; a cache file for each saves making it anew.
    """
    if sources is None:
        return []
    cache = sources.with_suffix(".bin")
    return ["-o", f"Dir::Etc::sourcelist={sources}", "-o", f"Dir::Cache::pkgcache={cache}"]
