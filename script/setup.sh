#!/usr/bin/env bash
# Makes .venv and installs the package with the extras named, e.g. `bash script/setup.sh ui,dev`.
# Nothing is installed again until pyproject.toml changes, so a second run takes no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="${1:-ui}"

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@"; else return 1; fi
}

python=""
for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$candidate" >/dev/null &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python="$candidate"
        break
    fi
done
if [ -z "$python" ]; then
    say "error: Python 3.10 or newer is needed. Install it (Debian, Ubuntu: apt install python3 python3-venv)."
    exit 2
fi

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "Making .venv with $("$python" --version)"
    if ! "$python" -m venv --clear .venv >/dev/null 2>&1; then
        # Debian and Ubuntu keep venv's pip in a package of its own
        say "Installing python3-venv"
        if ! { as_root apt-get update -qq && as_root apt-get install -y -qq python3-venv; } >/dev/null 2>&1 ||
            ! "$python" -m venv --clear .venv; then
            say "error: $python cannot make a virtual environment. Install python3-venv and start again."
            exit 2
        fi
    fi
fi

stamp=".venv/installed-${extras//,/-}-$(cksum pyproject.toml | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
    say "Installing inpainterz[$extras] and what it needs into .venv (once)"
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$extras]" >&2; then
        free="$(df -Pm . | awk 'NR == 2 { printf "%.1f", $4 / 1024 }')"
        say "error: the packages could not be installed; pip says why above. Then start again."
        say "       $free GB of disk are free; up to 10 GB are needed with torch for CUDA, 2 GB without torch."
        exit 1
    fi
    touch "$stamp"
fi
