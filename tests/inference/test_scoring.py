"""One pass over a dialogue scores its instances exactly as one pass each does."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.data.batching import collate, pack
from ppg_jax.data.dialogue import instances
from ppg_jax.data.passes import Example
from ppg_jax.inference import scoring
from ppg_jax.inference.generation import generate, generate_branches, row_keys
from ppg_jax.inference.prefixes import branches_of, joined, pad_left
from ppg_jax.inference.sampling import Decoding, filter_logits
from ppg_jax.inference.scoring import (
    Scorer,
    branch_mask,
    target_log_probs,
    target_logits,
)
from ppg_jax.losses import token_log_probs
from ppg_jax.rl.rollouts import completed
from tests import models_for_tests as small

TASKS = ["persona", "response", "response_without"]


def packed_and_single(task, prompts):
    """The same instances as dialogues with shared prefixes, and one by one."""
    packed, single = [], []
    for dialogue in small.DIALOGUES:
        partner = prompts.persona_target(dialogue.partner_persona)
        partner = None if task == "response_without" else partner
        if task == "persona":
            packed += prompts.persona_dialogue(dialogue)
            single += [prompts.persona_example(i) for i in dialogue.instances()]
        else:
            packed += prompts.response_dialogue(dialogue, partner)
            single += [
                prompts.response_example(i, partner) for i in dialogue.instances()
            ]
    return packed, single


@pytest.mark.parametrize("order", ["persona_first", "context_first"])
@pytest.mark.parametrize("task", TASKS)
def test_shared_prefixes_change_no_score(task, order, decoder):
    prompts = small.prompts(order=order)
    model, params = decoder(len(prompts.tokenizer))
    packed, single = packed_and_single(task, prompts)
    apart = Scorer(model, batch_size=3)(params, single)
    for passes in (packed, joined(single)):
        together = Scorer(model)(params, passes)
        assert together.keys() == apart.keys()
        assert together.keys() == {i.id for i in instances(small.DIALOGUES)}
        for name in apart:
            assert together[name].tokens == apart[name].tokens
            np.testing.assert_allclose(together[name].nll, apart[name].nll, rtol=1e-5)


def test_examples_of_one_dialogue_are_joined_to_passes_of_bounded_length():
    prompts = small.prompts()
    _, single = packed_and_single("response", prompts)
    assert len(joined(single)) == len(small.DIALOGUES)
    many = [dataclasses.replace(single[0], ids=(f"{n}",)) for n in range(40)]
    passes = joined(many)
    assert [name for e in passes for name in e.ids] == [f"{n}" for n in range(40)]
    assert 2 < len(passes) < 20
    assert max(map(len, passes)) <= 3 * len(single[0])
    assert joined(single[:1]) == single[:1] and joined([]) == []


@pytest.mark.parametrize("task", TASKS)
def test_shared_prefixes_change_no_gradient(task, decoder):
    prompts = small.prompts()
    model, params = decoder(len(prompts.tokenizer))

    def gradient(examples):
        batch = collate(examples)

        def loss(params):
            log_probs = target_log_probs(model, params, batch)
            return -jnp.sum(log_probs, where=batch.target_mask)

        return jax.jit(jax.grad(loss))(params)

    together, apart = map(gradient, packed_and_single(task, prompts))
    largest = max(float(np.abs(g).max()) for g in jax.tree.leaves(apart))
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * largest)


def test_rows_of_strangers_change_no_score(decoder):
    """Rotary positions, too, count from each example's own start."""
    prompts = small.prompts()
    model, params = decoder(len(prompts.tokenizer))
    dialogues, single = packed_and_single("persona", prompts)
    rows = pack(dialogues, 640)
    assert len(rows) < len(dialogues)
    scorer = Scorer(model, batch_size=5)
    together, apart = scorer(params, rows), scorer(params, single)
    assert together.keys() == apart.keys()
    for name in apart:
        np.testing.assert_allclose(together[name].nll, apart[name].nll, rtol=1e-5)


def test_a_packed_dialogue_is_smaller_than_its_instances():
    packed, single = packed_and_single("response", small.prompts())
    assert len(packed) == len(small.DIALOGUES)
    assert sum(map(len, packed)) < 0.7 * sum(map(len, single))


def test_the_rows_of_padding_are_the_shortest(monkeypatch):
    model, params = small.gpt2(16)
    lengths = [100, 10, 90, 110, 20]
    columns = (np.zeros(110, int), np.arange(110), *[np.zeros(110, int)] * 2)
    target = np.arange(110) == 5
    examples = [
        Example(*(c[:n] for c in (*columns, target)), ids=(str(n),)) for n in lengths
    ]
    shapes = []

    def record(*arguments, **options):
        batch = collate(*arguments, **options)
        shapes.append(batch.tokens.shape)
        return batch

    monkeypatch.setattr(scoring, "collate", record)
    scorer = Scorer(model, batch_size=4, widths=0)
    assert scorer(params, examples).keys() == set(map(str, lengths))
    assert shapes == [(4, 64), (4, 128)]  # 10, three rows of padding; the others
    assert scorer(params, []) == {}


def test_the_branch_mask_is_the_picture_in_the_docstring():
    a_b_c_x_y = Example(
        tokens=np.arange(5),
        position_ids=np.array([0, 1, 2, 2, 3]),
        branch_ids=np.array([0, 0, 0, 1, 1]),
        branch_starts=np.array([0, 0, 0, 2, 2]),
        target_of=np.zeros(5),
        ids=(),
    )
    columns = ("branch_ids", "branch_starts", "position_ids")
    mask = branch_mask(*(jnp.asarray(getattr(a_b_c_x_y, c))[None] for c in columns))
    picture = """1 . . . .
                 1 1 . . .
                 1 1 1 . .
                 1 1 . 1 .
                 1 1 . 1 1"""
    rows = [[cell == "1" for cell in row.split()] for row in picture.splitlines()]
    np.testing.assert_array_equal(mask[0], rows)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 9},
        {"temperature": 1.3, "top_p": 0.6},
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["whole", "branches"])
def test_sampled_log_probs_equal_a_teacher_forced_rescore(options, nested, decoder):
    prompts = small.prompts()
    model, params = decoder(len(prompts.tokenizer), n_layer=1)
    rows = [prompts.persona_prompt(i) for i in instances(small.DIALOGUES)]
    decoding = Decoding(max_new_tokens=12, **options)
    keys = row_keys(0, range(len(rows)))
    options = {"decoding": decoding, "end_id": 0, "pad_id": 0}
    if nested:  # two dialogues of three and two contexts, the longest of each last
        trunks = pad_left([rows[2], rows[4]], 128, 0)
        shared = [len(row) - 16 for row in rows]
        tails = [row[-16:] for row in rows]
        branches = branches_of([0, 0, 0, 1, 1], shared, tails, 2, 16, 0)
        run = functools.partial(generate_branches, model, **options)
        rollout = jax.jit(run)(params, *trunks, branches, keys)
        kept = [
            t[m].tolist()
            for t, m in zip(rollout.prompt, rollout.prompt_mask, strict=True)
        ]
        assert kept == rows
    else:
        run = functools.partial(generate, model, **options)
        rollout = jax.jit(run)(params, *pad_left(rows, 128, 0), keys)
    batch = collate(completed(jax.device_get(rollout)))

    @jax.jit
    def rescored(params, batch):
        logits = target_logits(model, params, batch)
        filtered = filter_logits(logits, decoding, batch.targets)
        return token_log_probs(filtered, batch.targets)

    again = rescored(params, batch)
    mask = rollout.completion_mask
    np.testing.assert_allclose(
        again[batch.target_mask], rollout.log_probs[mask], atol=1e-4
    )
    assert np.abs(np.asarray(rollout.log_probs)[~mask]).sum() == 0
