#!/usr/bin/env bash
# tokenizers 0.23.3 under transformers 5.24.0: how long a text may be is not a setting
# of the tokenizer but what the last call left behind.
#
# A tokenizer.json may say how texts are cut and filled up ("truncation", "padding").
# PreTrainedTokenizerFast keeps that in its `backend_tokenizer`, so whoever encodes with
# the backend (it is several times as fast, and makes no dictionaries) gets short texts
# with padding, where `encode` of the same object gives all tokens and none. And the
# first call by transformers takes the file's setting out of the backend for good: the
# same expression, `fast.backend_tokenizer.encode(text)`, gives other ids before and
# after an unrelated call, and a file saved then has lost it. The other way round, a call
# with truncation=True leaves the backend cutting every later text at that length.
# Nothing warns. Who encodes with the backend has to call no_truncation() and
# no_padding() first, and again whenever somebody else may have called the tokenizer.
#
# Versions: transformers 5.24.0, tokenizers 0.23.3.
# Output when written (Python 3.11):
#   backend, as the file says: 6 ids
#   encode by transformers: 9 ids
#   backend after that: 9 ids
#   truncation in the file that is saved now: None
#   backend after a call with truncation=True, max_length=3: 3 ids
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check \
  install transformers==5.24.0 tokenizers==0.23.3
cat > "$work/show.py" <<'PROGRAM'
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

folder = Path(sys.argv[1])
words = {"tea": 0, "[UNK]": 1, "<end>": 2}
made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
made.enable_truncation(4)
made.enable_padding(length=6, pad_id=2, pad_token="<end>")
made.save(str(folder / "tokenizer.json"))

text = "tea " * 9
fast = PreTrainedTokenizerFast(
    tokenizer_file=str(folder / "tokenizer.json"), pad_token="<end>"
)


def by_backend():
    return len(fast.backend_tokenizer.encode(text).ids)


found = [by_backend()]
print(f"backend, as the file says: {found[-1]} ids")
found.append(len(fast.encode(text)))
print(f"encode by transformers: {found[-1]} ids")
found.append(by_backend())
print(f"backend after that: {found[-1]} ids")
fast.save_pretrained(folder / "again")
kept = json.loads((folder / "again" / "tokenizer.json").read_text())["truncation"]
print(f"truncation in the file that is saved now: {kept}")
fast([text, "tea"], truncation=True, max_length=3, padding=True)
found.append(by_backend())
print(f"backend after a call with truncation=True, max_length=3: {found[-1]} ids")
sys.exit(found != [6, 9, 9, 3] or kept is not None)
PROGRAM
"$work/venv/bin/python" "$work/show.py" "$work" 2> /dev/null
