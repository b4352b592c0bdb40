#!/usr/bin/env bash
# Adapters that PEFT trained on a body are not those of its language model, and are
# dropped with a warning.
#
# A LoRA that was trained on AutoModel (as for embeddings, or a head of one's own) names
# its layers base_model.model.layers.N..., one of AutoModelForCausalLM names the very
# same layers base_model.model.model.layers.N.... PeftModel.from_pretrained on the
# language model of the same base matches none of them, raises nothing, and returns a
# model whose logits are the base's: every adapter is there, freshly begun (B is zero).
# All that tells of it is a UserWarning that lists keys. On the body the same folder
# works. Nothing in adapter_config.json says of which of the two it is.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0; a model of random weights.
# Output when written (Python 3.11):
#   body: adapters change the hidden states by up to 0.091761
#   language model: adapters change the logits by up to 0.000000 (warned: True)
#   the same file with "model." added to its names: by up to 0.007277
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install peft==0.21.2 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PROGRAM'
import shutil
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM

folder = sys.argv[1]
base, adapters, renamed = (f"{folder}/{n}" for n in ("base", "adapters", "renamed"))
tokens = torch.arange(6)[None]
config = LlamaConfig(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
)
torch.manual_seed(0)
LlamaForCausalLM(config).save_pretrained(base)
trained = get_peft_model(
    AutoModel.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"])
)
for name, parameter in trained.named_parameters():
    if "lora_" in name:  # as after training: B begins as zeros
        parameter.data.add_(0.3 * torch.randn(parameter.shape))
trained.save_pretrained(adapters)

shutil.copytree(adapters, renamed)
file = f"{renamed}/adapter_model.safetensors"
tensors = load_file(file)
longer = {n.replace("model.layers", "model.model.layers"): t for n, t in tensors.items()}
save_file(longer, file)


def moved(kind, field, folder):
    """How far the adapters of a folder move a model's output, and whether PEFT warned."""
    with torch.no_grad(), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        without = getattr(kind.from_pretrained(base).eval()(tokens), field)
        model = PeftModel.from_pretrained(kind.from_pretrained(base), folder).eval()
        change = (getattr(model(tokens), field) - without).abs().max().item()
    return change, any("missing adapter keys" in str(w.message) for w in seen)


body, _ = moved(AutoModel, "last_hidden_state", adapters)
speaker, warned = moved(LlamaForCausalLM, "logits", adapters)
mended, silent = moved(LlamaForCausalLM, "logits", renamed)
print(f"body: adapters change the hidden states by up to {body:.6f}")
told = f"(warned: {warned})"
print(f"language model: adapters change the logits by up to {speaker:.6f} {told}")
print(f'the same file with "model." added to its names: by up to {mended:.6f}')
as_told = body > 0.01 and speaker == 0 and warned and mended > 0.001 and not silent
sys.exit(0 if as_told else 1)
PROGRAM
"$work/venv/bin/python" "$work/show.py" "$work" 2> "$work/log" || { tail -5 "$work/log"; exit 1; }
