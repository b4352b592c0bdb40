#!/usr/bin/env bash
# snowballstemmer 3.1.1: one stemmer, asked by several threads, gives one of them the
# stem of another's word, or raises IndexError.
#
# `stemmer("porter")` looks like a function, and people keep one for the process (often
# behind functools.cache, for it is slow). But stemWord works on fields of the object:
# it writes the word into itself, walks over it and reads the result back. A thread that
# is interrupted in between goes on with the other thread's word. Nothing warns; a cache
# around it keeps the wrong stem for the life of the process. The pure Python stemmer is
# what `pip install snowballstemmer` gives; with PyStemmer beside it the module returns
# that one's. Remedy: a lock, or a stemmer for each thread.
#
# Threads are switched every microsecond here, so that it shows at once; with Python's
# own 5 ms it took some thousand words.
#
# Versions: snowballstemmer 3.1.1.
# Output when written (Python 3.11; how many differs from run to run):
#   one thread: 0 of 40000 stems are wrong
#   four threads, one stemmer: some of 40000 stems are wrong
#   four threads, a stemmer each: 0 of 40000 stems are wrong
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check \
  install snowballstemmer==3.1.1
cat > "$work/show.py" <<'PROGRAM'
import concurrent.futures
import sys

import snowballstemmer

WORDS = ["teaching", "hospitals", "gardener", "musical", "relational"] * 2000
alone = snowballstemmer.stemmer("porter")
RIGHT = {word: alone.stemWord(word) for word in WORDS}
sys.setswitchinterval(1e-6)


def wrong(stemmer) -> int:
    count = 0
    for word in WORDS:
        try:
            count += stemmer.stemWord(word) != RIGHT[word]
        except IndexError:
            count += 1
    return count


def by_four(stemmers) -> int:
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        return sum(threads.map(wrong, stemmers))


one = sum(wrong(alone) for _ in range(4))
shared = by_four([alone] * 4)
apart = by_four([snowballstemmer.stemmer("porter") for _ in range(4)])
print(f"one thread: {one} of {4 * len(WORDS)} stems are wrong")
some = "some" if shared else "0"
print(f"four threads, one stemmer: {some} of {4 * len(WORDS)} stems are wrong")
print(f"four threads, a stemmer each: {apart} of {4 * len(WORDS)} stems are wrong")
sys.exit(not (one == apart == 0 < shared))
PROGRAM
"$work/venv/bin/python" "$work/show.py"
