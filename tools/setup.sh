#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes this clone ready: programs of the distribution that are missing, then .venv with the versions
# that constraints.txt pins.  Each step does nothing when it is done already, and then needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Programs of sbin count for ordinary users too.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# program or file, Debian package; what `hil run` cannot do without
needed=(
    "qemu-system-x86_64 qemu-system-x86"
    "mksquashfs squashfs-tools"
    "depmod kmod"
    "dpkg-deb dpkg"
    "tar tar"
    "setpriv util-linux"
    "zstd zstd"
    "xz xz-utils"
    # drivers that no stock kernel has are built (docs/boards/exynos.md)
    "gcc gcc"
    "make make"
)
# what virtual boards of ARM need besides: make setup ARM=1
if [ -n "${ARM:-}" ]; then
    needed+=(
        "qemu-system-arm qemu-system-arm"
        "qemu-system-aarch64 qemu-system-arm"
        "arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf"
        "aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu"
        "dtc device-tree-compiler"
        "fdtoverlay device-tree-compiler"
    )
fi
# what tests compile with
wanted=(
    "/usr/include/stdio.h libc6-dev"
    "/usr/include/linux/videodev2.h linux-libc-dev"
)
# a browser, which tests open pages in: `make test`
if [ -n "${TESTS:-}" ]; then
    wanted+=("/usr/bin/chromium chromium" "/usr/bin/chromedriver chromium-driver")
fi

say() { printf 'setup: %s\n' "$*" >&2; }

die() {
    say "$1"
    shift
    printf '  %s\n' "$@" >&2
    exit 2
}

have() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# The first Python that is new enough and can make virtual environments; with "any": new enough.
find_python() {
    local python module='import ensurepip, venv, sys'
    [ "${1:-}" = any ] && module='import sys'
    for python in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$python" -c "$module; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
            command -v "$python"
            return 0
        fi
    done
    return 1
}

# Lines "PROGRAM PACKAGE" of what is missing.
missing() {
    local line
    for line in "$@"; do
        have "${line% *}" || echo "$line"
    done
}

words() { tr '\n' ' ' | sed 's/ $//'; }

packages_of() { sed 's/.* //' | sort -u | words; }

install() {
    local runner=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || return 1
        # Without a terminal nobody can type a password.
        if [ -t 0 ]; then runner=(sudo); else runner=(sudo -n); fi
        "${runner[@]}" true 2>/dev/null || return 1
    fi
    have apt-get || return 1
    say "installing $*"
    runner+=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
    "${runner[@]}" install -y --no-install-recommends "$@" >&2 ||
        { "${runner[@]}" update >&2 &&
            "${runner[@]}" install -y --no-install-recommends "$@" >&2; }
}

programs() {
    local lack extra all
    lack=$(missing "${needed[@]}")
    extra=$(missing "${wanted[@]}")
    find_python >/dev/null || [ -x .venv/bin/python ] || lack+=$'\n'"python3(>=3.11,venv) python3-venv"
    all=$(printf '%s\n%s\n' "$lack" "$extra" | sed '/^$/d' | packages_of)
    if [ -z "$all" ]; then
        return
    fi
    # shellcheck disable=SC2086 # one word a package
    install $all || true
    hash -r
    lack=$(missing "${needed[@]}")
    extra=$(missing "${wanted[@]}")
    if [ -n "$lack" ]; then
        local names why
        names=$(printf '%s\n' "$lack" | sed 's/ .*//' | words)
        if have apt-get; then
            why="They could not be installed from here (no rights, or apt-get failed).  As root:
    apt-get install --no-install-recommends $(printf '%s\n' "$lack" | packages_of)"
        else
            why="This machine has no apt-get: install them with its own package manager
  (Debian calls the packages: $(printf '%s\n' "$lack" | packages_of))."
        fi
        die "missing programs: $names" "$why" \
            "Stock kernels come through apt; without it these take a local kernel:" \
            "    make hw KERNEL=dir:PATH            a build tree of the kernel, or an unpacked package" \
            "    make hw KERNEL=deb:FILE[,FILE]     kernel packages" \
            "    .venv/bin/hil run --kernel SPEC    the same"
    fi
    if [ -n "$extra" ]; then
        say "note: no $(printf '%s\n' "$extra" | sed 's/ .*//' | words): tests that need it are skipped"
    fi
    if ! have apt-get; then
        say "note: no apt-get: only local kernels (--kernel deb:FILE[,FILE] or dir:PATH)"
    fi
}

environment() {
    local stamp=.venv/.setup-stamp python key
    # The folder counts: scripts of a virtual environment name it.
    key=$({ cat pyproject.toml constraints.txt tools/setup.sh && pwd; } | sha256sum)
    if [ -x .venv/bin/hil ] && [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] &&
        .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    # One at a time; the lock goes with this process.
    exec 9<pyproject.toml
    flock 9 2>/dev/null || true
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
        ! head -n 1 .venv/bin/pip | grep -qF "$PWD/.venv/"; then
        if ! python=$(find_python); then
            if find_python any >/dev/null; then
                die "this Python cannot make virtual environments: the module ensurepip is missing" \
                    "On Debian: apt-get install python3-venv"
            fi
            die "no Python of 3.11 or later among python3, python3.11 ... python3.14" \
                "On Debian 12 or later: apt-get install python3 python3-venv" \
                "Elsewhere name one: make setup PYTHON=/path/to/python3.11"
        fi
        say "making .venv with $python"
        "$python" -m venv --clear .venv
    fi
    say "installing the Python packages that constraints.txt pins"
    # setuptools first and no isolated build, so that the build tool is a pinned one too
    if ! .venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt setuptools >&2 ||
        ! .venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
            --no-build-isolation -e '.[lab,dev]' >&2; then
        die "pip could not install the Python packages" \
            "Check the network, the proxy and pip's index (pip config list), then run make setup again." \
            "What was installed stays; nothing is fetched twice."
    fi
    printf '%s\n' "$key" >"$stamp"
}

programs
environment
