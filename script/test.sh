#!/usr/bin/env bash
# Sets everything up, then runs lint, types and every test. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash script/setup.sh ui,neural,dev

if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing chromium for the browser tests" >&2
        { apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 ||
            echo "chromium cannot be installed here: the browser tests will skip" >&2
    else
        echo "chromium is not installed: the browser tests will skip (apt install chromium)" >&2
    fi
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
