#!/usr/bin/env bash
# PEFT merges adapters of a GPT-2's token table into its head as well, and does not warn;
# of a Llama's it warns.
#
# Where input table and head are one tensor (tie_word_embeddings, as in GPT-2, SmolLM2
# and most small models), adapters of the table change what is read, and not the head.
# merge_and_unload() adds them to the tensor that both share, so the merged model has
# another head than the trained one: its logits are others. PEFT knows of it and warns,
# when adapters are made and when they are merged, of tables named "embed_tokens". A
# GPT-2's is named "wte", and there is no warning at all, although the merged logits are
# as wrong. Adapters of all other layers merge as they should.
#
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0; models of random weights.
# Output when written (Python 3.11):
#   gpt2, adapters of wte: moved by more than 1 %, warned: False
#   llama, adapters of embed_tokens: moved by more than 1 %, warned: True
#   gpt2, adapters of c_attn: moved by less than 1 %, warned: False
#   llama, adapters of q_proj: moved by less than 1 %, warned: False
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install peft==0.21.2 transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PROGRAM'
import sys
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

tokens = torch.arange(8)[None]
sizes = {"vocab_size": 50, "bos_token_id": None, "eos_token_id": None}


def gpt2():
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=16, **sizes)
    return GPT2LMHeadModel(config)


def llama():
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
        **sizes,
    )
    return LlamaForCausalLM(config)


def told(make, layer, whole_rows):
    """How far a merge moves the logits, as a share of them, and whether PEFT warned."""
    torch.manual_seed(0)
    settings = {"target_modules": [layer], "fan_in_fan_out": whole_rows}
    with warnings.catch_warnings(record=True) as seen, torch.no_grad():
        warnings.simplefilter("always")
        model = get_peft_model(make(), LoraConfig(r=2, **settings)).eval()
        for name, parameter in model.named_parameters():
            if "lora_" in name:  # as after training: one of the two begins as zeros
                parameter.copy_(0.05 * torch.randn(parameter.shape))
        before = model(tokens).logits
        after = model.merge_and_unload()(tokens).logits
    moved = ((after - before).norm() / before.norm()).item()
    warned = any("tie_word_embeddings" in str(one.message) for one in seen)
    print(f"{make.__name__}, adapters of {layer}: ", end="")
    print(f"moved by {'more' if moved > 0.01 else 'less'} than 1 %, warned: {warned}")
    return moved > 0.01, warned


seen = [
    told(gpt2, "wte", False),
    told(llama, "embed_tokens", False),
    told(gpt2, "c_attn", True),
    told(llama, "q_proj", False),
]
expected = [(True, False), (True, True), (False, False), (False, False)]
sys.exit(0 if seen == expected else 1)
PROGRAM
"$work/venv/bin/python" "$work/show.py" 2> "$work/log" || { tail -5 "$work/log"; exit 1; }
