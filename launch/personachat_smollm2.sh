#!/usr/bin/env bash
# The whole method on PersonaChat, on SmolLM2-135M, on CPU, once for each seed:
#   bash launch/personachat_smollm2.sh [full|quick] [SEED ...]
# quick: 600 updates of a generator, 100 of what goes on from one (MTL: 67 of each
# alpha), 40 of REINFORCE; the critics, PerCVAE and PAML as in full.
# DATA and RUNS are folders of the data and for the run directories, from the
# repository's root. Stopped and started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
kind=${1:-full}
[ "$kind" = full ] || [ "$kind" = quick ] || refuse "'$kind' is neither full nor quick; \
type: bash launch/personachat_smollm2.sh [full|quick] [SEED ...]"
environment_with_minilm
"$python" -c 'from ppg_jax.models import hub; hub.locate("smollm2")'

# Half the time on a CPU that multiplies bfloat16 numbers; no change on others.
export JAX_DEFAULT_MATMUL_PRECISION=bfloat16
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-runs/.compiled}
seeds=("${@:2}")
stages=(persona response response_without response_top3 critic critic_backbone reinforce
  reinforce_persona reinforce_response reinforce_persona_x10 reinforce_response_x10
  reinforce_persona_x100 reinforce_response_x100 transfertransfo mtl_backbone percvae
  paml)
for seed in "${seeds[@]:-0}"; do
  flags=()
  for stage in "${stages[@]}"; do
    flags+=("--config.$stage.seed=$seed")
    case $kind:$stage in
      quick:persona | quick:response | quick:response_without)
        flags+=("--config.$stage.epochs=0.2685" "--config.$stage.evaluate_every=200") ;;
      quick:response_top3 | quick:transfertransfo)
        flags+=("--config.$stage.epochs=0.0244") ;;
      quick:mtl_backbone)
        flags+=("--config.$stage.epochs=0.03") ;;
      quick:reinforce*)
        flags+=("--config.$stage.updates=40" "--config.$stage.evaluate_every=20") ;;
    esac
  done
  run=${RUNS:-runs}/personachat_smollm2_${kind}_$seed
  launch() {
    "$python" -m "launch.$1" --config=configs/personachat_smollm2.py --workdir="$run" \
      --config.data.source="${DATA:-data/personachat}" "${flags[@]}" "${@:2}"
  }
  launch train
  launch evaluate
done
