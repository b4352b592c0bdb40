"""Both losses of TransferTransfo are those of the double heads of transformers.

Theirs has the speaker tokens in the table, and looks the types up there, too. Ours has
no logits for them: these are left out of theirs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')

import transformers  # noqa: E402

from ppg_jax.data.batching import collate  # noqa: E402
from ppg_jax.data.dialogue import instances  # noqa: E402
from ppg_jax.data.speakers import Spoken  # noqa: E402
from ppg_jax.inference.choosing import choice_nll, read_candidates  # noqa: E402
from ppg_jax.losses import cross_entropy  # noqa: E402
from ppg_jax.models import config_json, double_heads, pretrained  # noqa: E402
from ppg_jax.models.gpt2 import GPT2Config  # noqa: E402
from tests import models_for_tests as small  # noqa: E402

V, OTHERS = 300, ("so am i", "no , i paint .")


def their_losses(params, rows, folder) -> tuple[float, float]:
    """rows: of each instance, (numbers, where the reply begins) of each candidate."""
    decoder, heads = double_heads.split(params)
    table = [decoder["wte"]["embedding"], heads["speakers"]["embedding"]]
    decoder["wte"] = {"embedding": jnp.concatenate(table)}
    sizes = dict(n_positions=512, n_embd=16, n_layer=1, n_head=2)
    larger = config_json.module_of(GPT2Config(vocab_size=V + 2, **sizes))
    pretrained.export(larger, decoder, small.tokenizer(), folder)
    model = transformers.GPT2DoubleHeadsModel.from_pretrained(folder).eval()
    summary = model.multiple_choice_head.summary
    with torch.no_grad():
        kernel = np.array(heads["score"]["kernel"]).T
        summary.weight.copy_(torch.from_numpy(kernel))
        summary.bias.zero_()
    shape = len(rows), len(rows[0]), max(len(n) for row in rows for n, _ in row)
    ids, types = np.zeros(shape, int), np.full(shape, V)
    labels, ends = np.full(shape, -100), np.zeros(shape[:2], int)
    for i, row in enumerate(rows):
        for j, (numbers, start) in enumerate(row):
            length, numbers = len(numbers), np.array(numbers)
            ids[i, j, :length] = numbers % (V + 2)
            types[i, j, :length] = V + numbers // (V + 2)
            ends[i, j] = length - 1
            if j == len(row) - 1:  # the gold response
                labels[i, j, start:length] = numbers[start:]
    given = dict(input_ids=ids, token_type_ids=types, mc_token_ids=ends)
    given["mc_labels"] = np.full(len(rows), shape[1] - 1)
    with torch.no_grad():
        told = model(**{name: torch.from_numpy(array) for name, array in given.items()})
    said = told.logits[:, :, :-1, :V].reshape(-1, V)
    gold = torch.from_numpy(labels[:, :, 1:].reshape(-1))
    return torch.nn.functional.cross_entropy(said, gold).item(), told.mc_loss.item()


def test_both_losses_are_those_of_transformers(tmp_path):
    model, params = double_heads.with_heads(*small.gpt2(V, n_layer=1), 0)
    draw = np.random.default_rng(5).normal
    for name in ("score", "speakers"):
        drawn = lambda p: jnp.float32(draw(size=p.shape))  # noqa: E731
        params[name] = jax.tree.map(drawn, params[name])
    prompts = small.prompts()
    spoken = Spoken(prompts, V, 2)
    asked = instances(small.DIALOGUES)
    rows = [
        [
            (spoken.prompt(i) + prompts.response_target(t), len(spoken.prompt(i)))
            for t in (*OTHERS, i.response)
        ]
        for i in asked
    ]
    batch = collate([spoken.example(i, OTHERS) for i in asked])
    log_probs, scores = read_candidates(model, params, batch, 3)
    ours = cross_entropy(log_probs, batch.target_mask), choice_nll(scores).mean()
    theirs = their_losses(params, rows, tmp_path / "theirs")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
