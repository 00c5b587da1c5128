#!/usr/bin/env bash
# Fetches the weights of the networks into ckpt/; see ckpt/README.md.
#   bash script/download_ckpt.sh [--all] [--commercial] [NAME...]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
if [ ! -x "$python" ]; then
    echo "error: there is no $root/.venv. Make it first: bash script/setup.sh ui,neural" >&2
    exit 2
fi
exec "$python" -m inpainterz weights fetch "$@"
