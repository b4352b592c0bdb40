#!/usr/bin/env bash
# All stages on real PersonaChat, small and from scratch, on CPU; goes on when stopped.
# bash launch/personachat_scratch.sh [DATA_FOLDER [RUN_DIRECTORY]]
# Paths are from the repository's root.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
environment_with_minilm

data=${1:-data/personachat}
run=${2:-runs/personachat_scratch}
launch() {
  "$python" -m "launch.$1" --config=configs/personachat_scratch.py \
    --config.data.source="$data" --workdir="$run" "${@:2}"
}
launch train
launch evaluate --conversations=20
