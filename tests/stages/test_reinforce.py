"""The laws of one REINFORCE update, and of when training stops."""

import dataclasses
import functools
import itertools
from collections import Counter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ppg_jax import run_dir
from ppg_jax.data import corpus
from ppg_jax.data.batching import InstanceBatches, collate
from ppg_jax.data.dialogue import instances
from ppg_jax.data.prompts import PromptConfig, Prompts, example
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.generation import row_keys
from ppg_jax.inference.sampling import filter_logits
from ppg_jax.inference.scoring import target_logits
from ppg_jax.losses import token_log_probs
from ppg_jax.rl.rollouts import (
    branched,
    completed,
    make_sampler,
    prompts_of,
    update_batch,
)
from ppg_jax.rl.update import Policies, Policy, ReinforceState, make_update
from ppg_jax.rl.validation import finished
from ppg_jax.stages import reinforce
from ppg_jax.training.best import Best
from ppg_jax.training.train_state import TrainState
from tests import models_for_tests as small
from tests import run_for_tests as runs
from tests.models_for_tests import distance

LIMITS = PromptConfig(max_length=200, max_persona_tokens=10, max_response_tokens=6)
INSTANCES = instances(small.DIALOGUES)[:4]
TX = optax.sgd(0.1)


@pytest.fixture(scope="module")
def world():
    """Prompts, both policies, and one sampled batch."""
    prompts = Prompts(small.tokenizer(), LIMITS)
    size = len(prompts.tokenizer)
    persona_model, persona = small.gpt2(size, seed=1)
    response_model, response = small.gpt2(size, seed=2)
    policies = Policies(
        Policy(persona_model, persona, {}), Policy(response_model, response, {})
    )
    config = reinforce.Config(prompts=LIMITS, batch_size=4, top_k=20)
    models = persona_model, response_model
    sample = make_sampler(models, LIMITS, config.decodings, prompts.end_id)
    prompted = prompts_of(prompts, INSTANCES)
    rollouts = sample(persona, response, prompted, row_keys(0, range(4)))
    return config, prompts, policies, prompted, jax.device_get(rollouts)


def updated(world, advantages, watch=True, reference=None, **options):
    """The parameters of both policies after one SGD step, and the metrics.

    reference: the policies that KL is to; None: those that start.
    """
    config, _, policies, prompted, rollouts = world
    config = dataclasses.replace(config, **options)
    copy = lambda tree: jax.tree.map(np.array, tree)  # noqa: E731
    state = ReinforceState(
        step=jnp.zeros((), jnp.int32),
        persona=TrainState.create(copy(policies.persona.learned), TX),
        response=TrainState.create(copy(policies.response.learned), TX),
        best=Best.create({}),
        first={},
        last={},
    )
    update = update_of(config.objective, reference or policies)
    state, metrics = update(state, prompted, rollouts, advantages, watch)
    return state.persona.params, state.response.params, metrics


def update_of(objective, policies, made={}):  # noqa: B006
    """`make_update`, once for each objective: what it compiles serves all tests."""
    key = objective, id(policies)  # which lives as long as the update does
    if key not in made:
        made[key] = make_update(objective, policies, TX)
    return made[key]


def signs(*values):
    return np.array(values, np.float32)


def test_the_response_prompt_on_device_is_the_one_of_the_host(world):
    _, prompts, _, _, (persona, response) = world
    for row, instance in enumerate(INSTANCES):
        tokens = persona.completion[row][persona.completion_mask[row]].tolist()
        ended = tokens[-1] == prompts.end_id
        partner = prompts.generated_persona(tokens[:-1] if ended else tokens)
        expected = prompts.response_prompt(instance, partner)
        seen = response.prompt[row][response.prompt_mask[row]]
        np.testing.assert_array_equal(seen, expected)


def test_contexts_of_a_dialogue_are_read_once(world):
    *_, prompted, _ = world
    assert len(set(prompted.branches.rows.tolist())) == 2  # dialogues of four instances
    assert len(prompted.trunk) == 2


def test_the_longest_prompts_fit_a_model_of_just_so_many_positions():
    limits = PromptConfig(max_length=128, max_persona_tokens=16, max_response_tokens=8)
    prompts = Prompts(small.tokenizer(), limits)
    model, params = small.gpt2(len(prompts.tokenizer), n_positions=128)
    config = reinforce.Config(prompts=limits)
    long = [
        dataclasses.replace(instance, context=instance.context * 9)
        for instance in INSTANCES
    ]
    prompted = prompts_of(prompts, long)
    assert prompted.trunk.shape[1] == 128 - 16
    sample = make_sampler((model, model), limits, config.decodings, prompts.end_id)
    persona, response = sample(params, params, prompted, row_keys(0, range(4)))
    assert (
        persona.completion_mask.any(1).all() and response.completion_mask.any(1).all()
    )


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_updates_of_any_lengths_have_few_shapes(parts):
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(200):
        made = [
            example(
                [([1] * int(rng.integers(80, 400)), 0), ([2] * n, 1)], [], (str(i),)
            )
            for i, n in enumerate(rng.integers(2, 33, 20))
        ]
        batch, _, cut = update_batch(made, np.ones(20, np.float32), 448, parts)
        shapes.add((batch.tokens.shape, batch.targets.shape, cut))
    assert len(shapes) <= 10


@pytest.mark.parametrize(
    ("rows", "parts", "cut", "height"),
    [
        (3, 1, 1, 3),
        (5, 1, 1, 6),
        (1, 2, 1, 1),
        (3, 2, 3, 3),
        (5, 2, 2, 6),
        (9, 2, 3, 9),
        (5, 4, 5, 5),
        (8, 4, 4, 8),
        (9, 4, 5, 10),
    ],
)
def test_an_update_is_cut_where_fewest_rows_are_empty(rows, parts, cut, height):
    made = [example([([1] * 60, 0), ([2] * 4, 1)], [], (str(i),)) for i in range(rows)]
    batch, _, number = update_batch(made, np.ones(rows, np.float32), 64, parts)
    assert (number, len(batch.tokens)) == (cut, height)
    assert batch.target_mask.any(axis=1).sum() == rows


def log_probs_of(config, model, params, batch):
    """[R, M] of the sampling distribution."""
    logits = filter_logits(target_logits(model, params, batch), config.decoding(1))
    return token_log_probs(logits, batch.targets)


@pytest.mark.parametrize("policy", [0, 1])
def test_the_update_scores_what_was_sampled_as_it_was_sampled(world, policy):
    config, _, policies, prompted, rollouts = world
    rollout = rollouts[policy]
    examples = completed(rollout) if policy else branched(prompted, rollout)
    model, params = [
        (policies.persona.model, policies.persona.learned),
        (policies.response.model, policies.response.learned),
    ][policy]
    whose = np.arange(4, dtype=np.float32)
    batch, owner, _ = update_batch(examples, whose, width=200, parts=1)
    scored = jax.jit(functools.partial(log_probs_of, config, model))
    again = np.asarray(scored(params, batch))
    for row in range(4):
        mine = batch.target_mask & (owner == row)
        said = rollout.completion_mask[row]
        np.testing.assert_array_equal(
            batch.targets[mine], rollout.completion[row][said]
        )
        sampled = rollout.log_probs[row][said]
        np.testing.assert_allclose(again[mine], sampled, atol=1e-4)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_the_update_is_minus_reward_times_the_gradient_of_log_p(world, reduce):
    """The paper's two formulas, by autodiff of each completion's own log-probs."""
    config, _, policies, _, rollouts = world
    advantage = signs(1, -1, -1, 1)
    persona, response, _ = updated(world, (advantage, advantage), reduce=reduce)

    def objective(params, model, batch, lengths):
        log_p = log_probs_of(config, model, params, batch)
        log_p = jnp.sum(log_p, 1, where=batch.target_mask)[:4]
        if reduce == "mean":
            log_p = log_p / lengths
        return jnp.mean(advantage * log_p)

    gradient = jax.jit(jax.grad(objective), static_argnums=1)
    for new, old, model, rollout in [
        (persona, policies.persona.learned, policies.persona.model, rollouts[0]),
        (response, policies.response.learned, policies.response.model, rollouts[1]),
    ]:
        batch, lengths = collate(completed(rollout)), rollout.completion_mask.sum(1)
        grads = gradient(old, model, batch, lengths)
        ends = jax.device_get((old, grads))
        expected = jax.tree.map(lambda p, g: p + np.float32(0.1) * g, *ends)
        assert distance(expected, old) > 1e-3
        assert distance(new, expected) < 1e-5


def test_no_advantage_no_change(world):
    _, _, policies, *_ = world
    persona, response, _ = updated(world, (signs(0, 0, 0, 0), signs(0, 0, 0, 0)))
    assert distance(persona, policies.persona.learned) == 0
    assert distance(response, policies.response.learned) == 0


@pytest.mark.parametrize("frozen", ["persona", "response"])
def test_a_frozen_policy_keeps_its_bits(world, frozen):
    _, _, policies, *_ = world
    ones = signs(1, 1, 1, 1)
    persona, response, metrics = updated(
        world, (ones, ones), **{f"train_{frozen}": False}
    )
    moved = {
        "persona": distance(persona, policies.persona.learned),
        "response": distance(response, policies.response.learned),
    }
    assert moved.pop(frozen) == 0
    assert min(moved.values()) > 1e-4
    assert not any(name.startswith(frozen) for name in metrics)


@pytest.mark.parametrize(
    ("number", "terms"),
    [(2, {}), (4, {"entropy_coefficient": 0.3, "kl_coefficient": 0.1})],
)
def test_micro_batches_change_no_update(world, number, terms):
    advantages = (signs(1, -1, 1, 1), signs(1, -1, 1, 1))
    # Narrow rows, so that there are several to cut apart.
    terms = terms | {"prompts": dataclasses.replace(LIMITS, max_length=64)}
    *_, prompted, (persona, response) = world
    for examples in (branched(prompted, persona), completed(response)):
        batch, _, cut = update_batch(examples, signs(1, 1, 1, 1), 64, number)
        assert batch.target_mask.any(axis=1).sum() >= cut > 1
    whole = updated(world, advantages, **terms)
    parts = updated(world, advantages, micro_batches=number, **terms)
    for name in ("persona_entropy", "response_entropy"):
        np.testing.assert_allclose(whole[2][name], parts[2][name], rtol=1e-5)
    for a, b in zip(whole[:2], parts[:2], strict=True):
        assert distance(a, b) < 1e-5


def test_the_config_says_what_policies_compute_in(monkeypatch):
    monkeypatch.setattr(run_dir, "finished_stage", lambda workdir, name: workdir / name)
    loaded = SimpleNamespace(params={})
    monkeypatch.setattr(Critic, "load", lambda folder, bases: loaded)
    monkeypatch.setattr(corpus, "load_splits", lambda config: {})
    config = reinforce.Config(dtype="bfloat16")
    for policy in reinforce._load(config, runs.finished_run()).policies:
        assert policy.model.dtype == jnp.bfloat16
        kinds = {p.dtype for p in jax.tree.leaves(policy.learned)}
        assert kinds == {jnp.dtype("float32")}
    with pytest.raises(ValueError, match="dtype='float8'"):
        reinforce.Config(dtype="float8")


def test_what_is_not_watched_is_not_measured_and_changes_nothing(world):
    advantages = (signs(1, -1, 1, 1), signs(1, -1, 1, 1))
    *unseen, without = updated(world, advantages, watch=False)
    *seen, told = updated(world, advantages)
    assert [distance(a, b) for a, b in zip(unseen, seen, strict=True)] == [0, 0]
    assert float(told["persona_entropy"]) > 1 and float(without["persona_entropy"]) == 0
    assert float(without["response_kl"]) == 0
    *_, paid = updated(world, advantages, watch=False, entropy_coefficient=0.1)
    assert float(paid["persona_entropy"]) > 1
    assert float(paid["persona_kl"]) == 0


def test_what_is_measured_apart_is_what_the_loss_would_hold(world):
    _, _, policies, *_ = world
    persona, response = policies
    swapped = Policies(
        persona._replace(learned=response.learned),
        response._replace(learned=persona.learned),
    )
    advantages = (signs(1, -1, 1, 1), signs(1, -1, 1, 1))
    options = {"reference": swapped, "micro_batches": 2}
    *_, apart = updated(world, advantages, **options)
    tiny = {"kl_coefficient": 1e-9, "entropy_coefficient": 1e-9}
    *_, within = updated(world, advantages, watch=False, **options, **tiny)
    assert apart.keys() == within.keys()
    assert float(apart["persona_kl"]) > 0.1
    for name in apart:
        np.testing.assert_allclose(apart[name], within[name], rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"evaluate_every": 0}, "evaluate_every=0 must be"),
        ({"patience": 0}, "patience=0 must be"),
        ({"updates": -1}, "updates=-1 must be >= 0; 0 is one epoch"),
        ({"validation_instances": -5}, "must be >= 0; 0 is all"),
        (
            {"train_persona": False, "train_response": False},
            "set one of them to True",
        ),
        ({"reward": "trait_f1"}, "noise to its generator; give train_response=False"),
        (
            {"criterion": "persona_nll", "train_persona": False},
            "give criterion='response_nll'",
        ),
    ],
)
def test_a_run_that_would_train_nothing_is_refused_with_what_to_type(wrong, told):
    with pytest.raises(ValueError, match=told) as error:
        reinforce.Config(**wrong)
    assert str(error.value).startswith(next(iter(wrong)))


def test_kl_to_the_supervised_model_starts_at_zero_and_pulls_back(world):
    config, _, policies, prompted, rollouts = world
    ones = signs(1, 1, 1, 1)
    persona, _, metrics = updated(world, (ones, ones))
    assert abs(float(metrics["persona_kl"])) < 1e-5
    # From the moved policy, without any reward, the penalty alone lowers the KL.
    config = dataclasses.replace(config, kl_coefficient=0.1, train_response=False)
    state = TrainState.create(jax.tree.map(np.array, persona), TX)
    zeros = signs(0, 0, 0, 0)
    values = []
    update = update_of(config.objective, policies)
    response = TrainState.create(jax.tree.map(np.array, policies.response.learned), TX)
    whole = ReinforceState(0, state, response, Best.create({}), {}, {})
    for _ in range(3):
        whole, metrics = update(whole, prompted, rollouts, (zeros, zeros), True)
        values.append(float(metrics["persona_kl"]))
    assert values[0] > values[1] > values[2] > 0


@pytest.mark.parametrize("batching", ["dialogue", "instance"])
def test_every_instance_comes_once_an_epoch_in_a_seeded_order(batching):
    ids = [i.id for i in instances(small.DIALOGUES)]  # 5: no multiple of the batch

    def seen(seed):
        batches = InstanceBatches(small.DIALOGUES, 2, seed, batching)
        return [i.id for step in range(10) for i in batches(step)]

    first = seen(3)
    for epoch in range(4):
        assert Counter(first[epoch * 5 : epoch * 5 + 5]) == Counter(ids)
    assert first == seen(3)
    assert any(first != seen(seed) for seed in range(4, 8))


def test_an_epoch_is_as_many_updates_as_read_each_instance_once():
    number = sum(len(list(d.instances())) for d in small.DIALOGUES)
    batches = InstanceBatches(small.DIALOGUES, number - 1, 0, "instance")
    assert batches.epoch == pytest.approx(number / (number - 1))
    assert batches.steps_per_epoch == 2


def test_turns_of_a_dialogue_follow_each_other():
    batches = InstanceBatches(small.DIALOGUES, 5, 0, "dialogue")
    talks = [[i.id for i in d.instances()] for d in small.DIALOGUES]
    orders = [[*itertools.chain(*order)] for order in itertools.permutations(talks)]
    for step in range(4):
        assert [i.id for i in batches(step)] in orders


@dataclasses.dataclass
class Seen:
    """What `finished` looks at."""

    first: dict
    last: dict
    best: Best


FINE = {"response_nll": 3.0, "persona_nll": 4.0, "persona_distinct_2": 0.5}


@pytest.mark.parametrize(
    ("change", "failed", "reason"),
    [
        ({}, 0, ""),
        ({"response_nll": 3.3}, 9, ""),
        ({"response_nll": 3.5}, 0, "collapsed: response perplexity 20.1 -> 33.1"),
        ({"persona_nll": 5.5}, 0, "collapsed: persona perplexity"),
        ({"persona_distinct_2": 0.1}, 0, "collapsed: Distinct-2"),
        ({}, 10, "no better for 10 validations"),
    ],
)
def test_training_stops_when_it_should_and_says_why(change, failed, reason):
    best = Best.create({}).replace(failed=jnp.array(failed))
    state = Seen(FINE, FINE | change, best)
    told = finished(reinforce.Config().patience)(state)
    assert told.startswith(reason) if reason else told == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 1, "baseline": "leave_one_out"}, "batch_size=1 has none"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
        ({"kl_coefficient": -0.1}, "kl_coefficient=-0.1 must be 0 or more"),
    ],
)
def test_settings_that_train_nothing_or_the_wrong_thing_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        reinforce.Config(**changes)
