# Makes .venv with what is asked for, once: environment EXTRA...
# Sourced by the scripts beside it; leaves $python set.
environment() {
  local want="${1:+[$1]}"
  python=.venv/bin/python
  [ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
  local made=".venv/made_with_${1:-}" key
  key="$(cksum setup.cfg pyproject.toml)"
  if [ "$(cat "$made" 2>/dev/null)" != "$key" ]; then
    echo "installing ppg_jax$want into .venv" >&2
    "$python" -m pip install --quiet --disable-pip-version-check -e ".$want"
    echo "$key" > "$made"
  fi
}
