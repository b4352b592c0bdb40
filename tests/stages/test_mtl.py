"""Multi-task learning with personas reconstruction (Lee et al., 2021)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.data.batching import collate
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import instances
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError
from ppg_jax.files import read_metrics
from ppg_jax.models import pretrained
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.stages import mtl as stage
from ppg_jax.systems.generators import Generators
from ppg_jax.systems.system import Asking
from ppg_jax.training.train_state import OptimizerConfig, TrainState, params_sha256
from tests import models_for_tests as small
from tests.stages.interrupted import compiled_once, stopped_before

PROMPTS = PromptConfig(max_length=128, max_persona_tokens=40)
ASKED = instances(small.DIALOGUES)
STEPS, EVERY = 20, 10  # of each alpha; between two validations


@pytest.fixture(scope="module", autouse=True)
def same_programs():
    with compiled_once(stage, "make_optimizer", "make_train_step", "Scorer"):
        yield


def config(source: str, **changes) -> stage.Config:
    defaults = stage.Config(
        name="both",
        alphas=(0.9, 0.1, 0.5),
        data=DataConfig(source=source),
        prompts=PROMPTS,
        tokenizer="bpe:300",
        model=GPT2Config(
            n_positions=128, n_embd=32, n_layer=1, n_head=2, embd_pdrop=0, attn_pdrop=0
        ),
        dropout=False,
        batch_size=2,
        widths=1,
        epochs=float(STEPS),
        optimizer=OptimizerConfig(learning_rate=1e-2, clip_norm=1.0),
        evaluate_every=EVERY,
        checkpoint_every=0,
        log_every=1,
    )
    return dataclasses.replace(defaults, **changes)


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """(run directory, result)."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, stage.run(config(source), workdir)


def stopped_at(number: int, source: str, workdir):
    """The run of `config` is told to stop before that update, and then goes on."""
    with stopped_before(batch=2 * number):  # one of each task in an update
        stage.run(config(source), workdir)
    assert not (workdir / "both" / "result.json").exists()
    return stage.run(config(source), workdir)


def test_alphas_keep_their_updates_when_it_goes_on(source, tmp_path):
    with stopped_before(batch=2 * (STEPS + 1)):
        stage.run(config(source), tmp_path)
    with pytest.raises(UserError, match=f"evaluate_every was {EVERY}, is 1"):
        stage.run(config(source, evaluate_every=1), tmp_path)


def validations(workdir) -> list[dict]:
    """Those of trained weights."""
    log = read_metrics(workdir / "both" / "metrics.jsonl")
    return [m for m in log if "valid_ppl" in m and m["step"]]


# ---- The loss ----


def by_hand(model, params, targets) -> float:
    """Nats per token of (prompt, target) pairs; each text alone, without padding."""
    nats, count = 0.0, 0
    for prompt, target in targets:
        tokens = jnp.array([[*prompt, *target]])
        places = jnp.arange(tokens.shape[1])[None]
        mask = jnp.tri(tokens.shape[1], dtype=bool)[None]
        logits = model.apply({"params": params}, tokens, places, mask)
        log_probs = jax.nn.log_softmax(logits[0, len(prompt) - 1 : -1])
        nats -= float(log_probs[np.arange(len(target)), np.array(target)].sum())
        count += len(target)
    return nats / count


@pytest.fixture(scope="module")
def updated():
    """alpha -> (loss by hand of each task, metrics, parameters after an update)."""
    prompts = small.prompts(**dataclasses.asdict(PROMPTS))
    model, params = small.gpt2(len(small.tokenizer()), n_positions=128, n_layer=1)
    both = stage.examples_of(config(""), prompts, {"valid": small.DIALOGUES})
    batches = stage.Tasks(*map(collate, both))
    persona = [
        (prompts.persona_prompt(i), prompts.persona_target(i.partner_persona))
        for i in ASKED
    ]
    response = [
        (prompts.response_prompt(i, None), prompts.response_target(i.response))
        for i in ASKED
    ]
    hand = stage.Tasks(*(by_hand(model, params, t) for t in (persona, response)))
    tx = stage.make_optimizer(OptimizerConfig(learning_rate=1e-2), 1)
    step = stage.make_train_step(model, tx, 0, False)

    def update(alpha: float, batches=batches):
        state = TrainState.create(jax.tree.map(jnp.array, params), tx)
        state, metrics = step(state, np.float32(alpha), batches, {})
        return hand, metrics, state.params

    return update, batches


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_loss_is_the_sum_by_hand(updated, alpha):
    """Both from context and self persona; the partner's is a target and never told."""
    hand, told, _ = updated[0](alpha)
    total = alpha * hand.persona + (1 - alpha) * hand.response
    named = {"persona_loss": hand.persona, "response_loss": hand.response}
    for name, value in (named | {"loss": total}).items():
        np.testing.assert_allclose(told[name], value, rtol=1e-4)


def test_at_alpha_0_the_persona_teaches_nothing(updated):
    update, batches = updated
    other = batches.persona.replace(targets=np.flip(batches.persona.targets))
    changed = batches._replace(persona=other)
    alone, heard = update(0.0), update(0.0, changed)
    assert params_sha256(alone[2]) == params_sha256(heard[2])
    assert alone[1]["persona_loss"] != heard[1]["persona_loss"]
    heeding = [params_sha256(update(0.3, b)[2]) for b in (batches, changed)]
    assert heeding[0] != heeding[1]


# ---- Which alpha ----


def test_the_alpha_of_the_best_responses_is_kept(finished):
    workdir, result = finished
    seen = validations(workdir)
    assert [m["alpha"] for m in seen] == [0.9, 0.9, 0.1, 0.1, 0.5, 0.5]
    best = min(seen, key=lambda m: m["valid_ppl"])
    assert (result["alpha"], result["kept_step"]) == (best["alpha"], best["step"])
    assert result["alpha"] == 0.1  # neither the first one nor the last
    assert [a["alpha"] for a in result["alphas"]] == [0.9, 0.1, 0.5]
    for each in result["alphas"]:
        own = [m for m in seen if m["alpha"] == each["alpha"]]
        lowest = min(own, key=lambda m: m["valid_ppl"])
        for name in ("valid_ppl", "valid_persona_ppl"):
            np.testing.assert_allclose(each[name], lowest[name], rtol=1e-5)
    assert result["valid_ppl"] == min(a["valid_ppl"] for a in result["alphas"])


def test_each_alpha_begins_anew_and_learns_as_long(finished):
    log = read_metrics(finished[0] / "both" / "metrics.jsonl")
    updates = [m for m in log if "response_loss" in m]
    counts = {a: sum(m["alpha"] == np.float32(a) for m in updates) for a in (0.9, 0.1)}
    assert counts == {0.9: STEPS, 0.1: STEPS} and len(updates) == 3 * STEPS
    begun = [updates[n * STEPS] for n in range(3)]
    for task in ("response_loss", "persona_loss"):
        assert len({m[task] for m in begun}) == 1  # the same weights, the same batch
    assert begun[0]["learning_rate"] == begun[2]["learning_rate"]


def test_a_validation_counts_for_its_alpha_alone():
    """A later, worse one of the same alpha changes nothing; nor does a tie."""
    params = {"w": jnp.zeros(1)}
    tx = stage.make_optimizer(OptimizerConfig(), 1)
    state = stage.GridState.create(params, tx, 2)

    def after(step, number, response, persona):
        nonlocal state
        state = state.replace(step=jnp.array(step, jnp.int32))
        state = state.seen(number, stage.Tasks(persona, response))

    for step, seen in enumerate([(0, 2.0, 5.0), (0, 3.0, 1.0), (1, 2.0, 0.5)], start=1):
        after(step, *seen)
    assert (int(state.alpha), int(state.best.step)) == (0, 1)
    np.testing.assert_allclose(state.found, [[2.0, 5.0], [2.0, 0.5]])
    after(4, 1, 1.5, 7.0)
    assert (int(state.alpha), int(state.best.step)) == (1, 4)
    np.testing.assert_allclose(state.found, [[2.0, 5.0], [1.5, 7.0]])


@pytest.mark.parametrize("at", [STEPS // 2, STEPS, STEPS + 5])
def test_a_stopped_run_ends_the_same(finished, source, tmp_path, at):
    """Within an alpha, at its last update, and in another alpha."""
    result = stopped_at(at, source, tmp_path)
    differing = {"seconds_of_last_process"}
    assert result.keys() == finished[1].keys()
    for name in result.keys() - differing:
        assert result[name] == finished[1][name], name
    assert validations(tmp_path) == validations(finished[0])


# ---- The row ----


def test_the_row_is_a_generator_that_is_told_none(finished):
    """Trained beats untrained; a score is the sum by hand; the partner is not heard."""
    workdir, result = finished
    row = Generators("M", "both", told="none")
    answers = row.load(Asking(workdir, (), PROMPTS))
    scores = answers.score(ASKED)
    model, params, tokenizer = pretrained.load(workdir / "both" / "model")
    assert params_sha256(params) == result["params_sha256"]
    prompts = stage.Prompts(tokenizer, PROMPTS)
    target = prompts.response_target(ASKED[0].response)
    hand = by_hand(model, params, [(prompts.response_prompt(ASKED[0], None), target)])
    assert scores[0].tokens == len(target)
    np.testing.assert_allclose(scores[0].nll, hand * len(target), rtol=1e-4)
    total = sum(s.nll for s in scores) / sum(s.tokens for s in scores)
    np.testing.assert_allclose(np.exp(total), result["valid_ppl"], rtol=1e-4)
    log = read_metrics(workdir / "both" / "metrics.jsonl")
    before = next(m for m in log if "valid_ppl" in m)
    assert before["step"] == 0 and result["valid_ppl"] < before["valid_ppl"] / 4
    strange = [dataclasses.replace(i, partner_persona=("x",)) for i in ASKED]
    assert answers.score(strange) == scores
    assert {a.told for a in answers.respond(ASKED[:2])} == {None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"alphas": ()},
        {"alphas": (0.5, 0.5)},
        {"alphas": (0.5, 1.0)},
        {"alphas": (-0.1,)},
        {"alphas": ("a",)},
        {"batch_size": 0},
        {"persona_order": "by_name"},
        {"tokenizer": ""},
    ],
)
def test_a_wrong_config_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config("", **wrong)
