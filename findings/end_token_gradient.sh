#!/usr/bin/env bash
# The gradient of the end token is wrong if config.json gives padding the same token.
#
# LlamaForCausalLM makes its embedding with padding_idx=config.pad_token_id. Instruct
# models often have one token for the end of a turn and for padding (SmolLM2-Instruct: 2
# and 2; in its GGUF files too). The end token then stands in the middle of every
# training text, attended to and with labels, and torch silently leaves out what it
# contributes as an input: the gradient that backward() gives for its row is not the
# derivative of the loss. With a tied head the row still gets the head's part, so nothing
# looks frozen. With another pad_token_id, or none, the gradient is right; the attention
# mask, all ones here, makes no difference.
#
# Versions: transformers 5.24.0, torch 2.13.0; a model of random weights.
# Output when written (Python 3.11):
#   pad_token_id 2 = eos_token_id: backward() -0.093075, central difference 0.849485
#   pad_token_id 0: backward() 0.850134, central difference 0.849485
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install transformers==5.24.0 torch==2.13.0
cat > "$work/show.py" <<'PROGRAM'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

END = 2
# Two turns, each closed by the end token.
tokens = torch.tensor([[5, 6, 7, END, 8, 9, 10, END]])


def slopes(padding):
    """d loss / d (one number of the end token's row): backward(), and by difference."""
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=padding,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).double()
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(torch.randn(table.shape, generator=torch.manual_seed(1)) / 2)

    def loss():
        mask = torch.ones_like(tokens)
        return model(tokens, attention_mask=mask, labels=tokens).loss

    loss().backward()
    step, sides = 1e-3, []
    with torch.no_grad():
        for sign in (1, -1):
            table[END, 0] += sign * step
            sides.append(loss().item())
            table[END, 0] -= sign * step
    return table.grad[END, 0].item(), (sides[0] - sides[1]) / (2 * step)


same, other = slopes(END), slopes(0)
for name, pair in (("2 = eos_token_id", same), ("0", other)):
    told = "backward() {:.6f}, central difference {:.6f}".format(*pair)
    print(f"pad_token_id {name}: {told}")
wrong = abs(same[0] - same[1]) > 0.1
right = abs(other[0] - other[1]) < 0.01  # the norms are float32 inside
sys.exit(0 if wrong and right else 1)
PROGRAM
"$work/venv/bin/python" "$work/show.py" 2> "$work/log" || { tail -5 "$work/log"; exit 1; }
