#!/usr/bin/env bash
# The package's own model answers; then the whole method on the embedded corpus, on
# CPU: bash launch/quickstart.sh
# Stopped and started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
environment_with_minilm

echo "Three conversations with the model that comes with the package:"
for talk in nurse carpenter runner; do
  cat tests/conversations/$talk.txt
  echo /reset
done | "$python" -m launch.chat

run=runs/quickstart
launch() { "$python" -m "launch.$1" --config=configs/quickstart.py --workdir=$run "${@:2}"; }
the_others_run() { kill -0 "$others" 2> /dev/null; }
wait_for_the_others() {
  [ -n "$others" ] || return 0
  wait "$others" || { tail -n 5 $run/others.log >&2; exit 1; }
  others=
  grep "done " $run/others.log
}
end_the_others() {
  [ -z "$others" ] || { kill "$others" 2> /dev/null && wait "$others"; } || true
}

# What needs nothing of the generators trains beside them: models of this size do not
# keep two cores busy.
mkdir -p $run
echo "The critic and dialogue_without train beside the others: $run/others.log."
# exec: the process that is ended is Python, and no shell that leaves it behind.
(exec "$python" -m launch.train --config=configs/quickstart.py --workdir=$run \
  --stage=critic,dialogue_without) > $run/others.log 2>&1 &
others=$!
trap end_the_others EXIT
for stage in dialogue persona response response_top3; do
  launch train --stage=$stage
  the_others_run || wait_for_the_others
done
[ -z "$others" ] || echo "Waiting for the others."
wait_for_the_others
launch train --stage=response_without,reinforce,reinforce_persona,reinforce_response
launch evaluate --conversations=3

cat <<TXT

Tables and figures: $run/report.md
Chat with it:       .venv/bin/ppg-jax chat --workdir=$run
On PersonaChat:     .venv/bin/ppg-jax prepare-data --download --data=data
                    bash launch/personachat_scratch.sh
TXT
