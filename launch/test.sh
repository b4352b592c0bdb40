#!/usr/bin/env bash
# Sets up .venv and runs the tests, two files at a time; with arguments, which go to
# pytest, one: bash launch/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/environment.sh
environment test

# A file compiles in its own process what its tests share; more than two would ask for
# more memory than small machines have.
if [ $# = 0 ]; then set -- -m "not slow" -n 2 --dist loadfile; fi
exec "$python" -m pytest "$@"
