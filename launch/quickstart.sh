#!/usr/bin/env bash
# The whole method on the embedded corpus, on CPU: bash launch/quickstart.sh
# Stopped and started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
environment_with_minilm

run=runs/quickstart
launch() { "$python" -m "launch.$1" --config=configs/quickstart.py --workdir=$run "${@:2}"; }
the_critic_runs() { kill -0 $critic 2> /dev/null; }
wait_for_the_critic() {
  wait $critic || { tail -n 5 $run/critic.log >&2; exit 1; }
  tail -n 1 $run/critic.log
}

# The critic needs nothing of the generators, and a generator of this size does not
# keep two cores busy.
mkdir -p $run
echo "The critic trains beside the generators; its progress is in $run/critic.log."
launch train --stage=critic > $run/critic.log 2>&1 &
critic=$!
trap 'kill $critic 2> /dev/null && wait $critic || true' EXIT
for stage in dialogue persona response response_without; do
  launch train --stage=$stage
  the_critic_runs || wait_for_the_critic
done
echo "Waiting for the critic."
wait_for_the_critic
trap - EXIT
launch train --stage=reinforce
launch evaluate --conversations=3

cat <<TXT

Tables and figures: $run/report.md
Chat with it:       $python -m launch.chat --workdir=$run
On PersonaChat:     $python -m launch.prepare_data --download --data=data
                    bash launch/personachat_scratch.sh
TXT
