#!/usr/bin/env bash
# Sets up .venv and runs the tests; arguments go to pytest: bash launch/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
environment test

if [ $# = 0 ]; then set -- -m "not slow"; fi
exec "$python" -m pytest "$@"
