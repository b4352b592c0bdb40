#!/usr/bin/env bash
# The whole method on the embedded corpus, on CPU: bash launch/quickstart.sh
# Stopped and started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
environment

run=runs/quickstart
stage() { "$python" -m "launch.$1" --config=configs/quickstart.py --workdir=$run "${@:2}"; }
stage train_persona
stage train_response
stage train_response --stage=response_without
stage train_critic
stage train_reinforce
stage evaluate --conversations=3

cat <<TXT

Tables and figures: $run/report.md
Chat with it:       $python -m launch.chat --workdir=$run
On PersonaChat:     $python -m launch.prepare_data --download --data=data
                    then the stages above with --config=configs/personachat_scratch.py
                    --config.data.source=data/personachat --workdir=runs/personachat
TXT
