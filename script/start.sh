#!/usr/bin/env bash
# Sets everything up, then serves the page on http://127.0.0.1:7860.
#   bash script/start.sh [--neural] [serve options]          the page
#   bash script/start.sh [--neural] --demo [demo options]    the main job on the example clip
# --neural also installs PyTorch for the networks; it is implied where an NVIDIA GPU is found.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

extras="ui"
command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1 && extras="ui,neural"
job="serve"
arguments=()
for argument in "$@"; do
    case "$argument" in
        --neural) extras="ui,neural" ;;
        --demo) job="demo" ;;
        *) arguments+=("$argument") ;;
    esac
done

bash "$here/script/setup.sh" "$extras"
exec "$here/.venv/bin/inpainterz" "$job" ${arguments[@]+"${arguments[@]}"}
