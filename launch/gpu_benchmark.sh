#!/usr/bin/env bash
# All races, and parity, on a machine with an NVIDIA GPU and perhaps no network.
#   bash launch/gpu_benchmark.sh wheels FOLDER [NAME[==VERSION] ...]
#     where there is a network: into FOLDER, what that machine has not. It has Python
#     3.12 on Linux, JAX with CUDA, and the packages that are named here.
#   bash launch/gpu_benchmark.sh run FOLDER DATA GPT2_TOKENIZER BERT_TOKENIZER [flags]
#     there: ten minutes at most; PYTHON (python3) is the interpreter that has JAX.
# Paths from the repository's root. Flags and results: launch/gpu_benchmark.py; --trial
# tries it all on a CPU.
set -euo pipefail
began=$(date +%s)
usage() { sed -n 2,9p "$0" >&2; exit 2; }
fail() { echo "gpu_benchmark: $*" >&2; exit 2; }
# The requirements of setup.cfg, one a line.
requirements() {
  sed -n '/^install_requires/,/^$/p' setup.cfg | sed -e 1d -e '/^$/d' -e 's/^ *//'
}

wheels() {
  [ $# -ge 1 ] || usage
  local folder=$1 there=(jax jaxlib numpy scipy ml_dtypes "${@:2}") name of=()
  for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
    of+=(--platform "${name}_x86_64")
  done
  "$python" -m pip download --quiet --disable-pip-version-check --dest "$folder" \
    --only-binary=:all: --python-version 3.12 --implementation cp "${of[@]}" \
    --constraint <(printf '%s\n' "${there[@]}" | grep == || true) \
    --requirement <(requirements | sed -e '/< "3.12"/d' -e 's/;.*//') ||
    fail "pip found no set of wheels; are the versions named right?"
  shopt -s nocaseglob nullglob
  for name in "${there[@]%%==*}"; do rm -f "$folder/${name//[-.]/_}"-[0-9]*.whl; done
  du -sh "$folder" >&2
}

# .venv-gpu: all that $python sees, and on top what is missing, from FOLDER alone.
environment() {
  [ -d "$1" ] || fail "$1 is no folder; make it with: $0 wheels FOLDER"
  "$python" -m venv --clear --system-site-packages --without-pip .venv-gpu
  # A venv of a venv would see the system's packages, not those of its parent.
  "$python" -c 'import site; print("import site;", "; ".join(
    f"site.addsitedir({p!r})" for p in site.getsitepackages()))' \
    > "$(echo .venv-gpu/lib/python3*/site-packages)/there.pth"
  local needed
  mapfile -t needed < <(requirements)
  "$python" -m pip --python .venv-gpu/bin/python --disable-pip-version-check install \
    --quiet --no-index --find-links "$1" "${needed[@]}" ||
    fail "$1 lacks what pip names above; add it with: $0 wheels"
}

run() {
  [ $# -ge 4 ] || usage
  environment "$1"
  # Contestants share the device, one at work at a time: none may take all its memory.
  export XLA_PYTHON_CLIENT_PREALLOCATE=false HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
  .venv-gpu/bin/python -m launch.gpu_benchmark --source="$2" --gpt2_tokenizer="$3" \
    --bert_tokenizer="$4" --budget=$((555 - $(date +%s) + began)) "${@:5}"
}

python=${PYTHON:-python3}
case "${1:-}" in
  wheels | run)
    cd "$(dirname "$0")/.."
    "$@"
    ;;
  *) usage ;;
esac
