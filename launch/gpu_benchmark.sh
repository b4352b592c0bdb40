#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: parity on the CPU, then every suite against PyTorch.
#   bash launch/gpu_benchmark.sh DATA GPT2_TOKENIZER BERT_TOKENIZER [more flags]
# Results: runs/benchmark_gpu/{float32,bfloat16}/benchmark.{json,md,png}.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 3 ] || { sed -n 2,4p "$0" >&2; exit 2; }
. launch/environment.sh
if [ "$(uname)" = Linux ] && command -v nvidia-smi > /dev/null; then environment cuda13; fi
environment test

source=$1 gpt2=$2 bert=$3
shift 3
"$python" -m pytest tests/parity
# Contestants share the device, one at work at a time: none may take all its memory.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
for dtype in float32 bfloat16; do
  "$python" -m launch.benchmark --suite=all --dtype=$dtype --threads=0 \
    --peer=torch_eager --peer=torch_compile \
    --batch_size=16 --micro_batch=32 --instances=512 \
    --source="$source" --gpt2_tokenizer="$gpt2" --bert_tokenizer="$bert" \
    --output=runs/benchmark_gpu/$dtype "$@"
done
