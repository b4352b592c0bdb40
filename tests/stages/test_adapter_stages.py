"""Stages that train adapters: the base stays what it is, and is there once."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ppg_jax import run_dir
from ppg_jax.data import corpus
from ppg_jax.data.dialogue import instances
from ppg_jax.errors import UserError
from ppg_jax.experiment import paper_rows
from ppg_jax.files import read_metrics, write_json
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.generation import row_keys
from ppg_jax.inference.pipeline import Pipeline
from ppg_jax.models import adapters, pretrained
from ppg_jax.rl.rollouts import make_sampler, prompts_of
from ppg_jax.rl.update import Policies, Policy, ReinforceState, make_update
from ppg_jax.serve import export
from ppg_jax.stages import reinforce, supervised
from ppg_jax.systems.generators import Generators
from ppg_jax.systems.system import Asking
from ppg_jax.training.best import Best, BestState
from ppg_jax.training.train_state import OptimizerConfig, TrainState, params_sha256
from tests import models_for_tests as small
from tests import run_for_tests as runs
from tests.stages.interrupted import stopped_before

POLICIES = ("persona", "response")


def learned_of(params, seed: int):
    """Adapters that matter, as after training, and the base."""
    learned, base = adapters.split(adapters.add(params, 2, seed))
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda p: jnp.float32(draw(0, 0.1, p.shape)), learned), base


def write_stages(workdir, kind: str):
    """A run directory whose persona and response stage are adapters of one model."""
    data = runs.write_stages(workdir)
    tokenizer = small.tokenizer()
    model, params = small.DECODERS[kind](len(tokenizer), n_positions=64, n_layer=1)
    base = pretrained.export(model, params, tokenizer, workdir / "dialogue" / "model")
    write_json(workdir / "dialogue" / "result.json", runs.FINISHED)
    for seed, name in enumerate(POLICIES):
        folder = workdir / name / "model"
        shutil.rmtree(folder)
        learned, _ = learned_of(params, seed)
        tree = adapters.join(learned, params)
        pretrained.export(model, tree, tokenizer, folder, str(base))
        sums = {"params_sha256": params_sha256(learned)}
        write_json(workdir / name / "result.json", sums)
    rows = [{"name": n, **row.description} for n, row in paper_rows().items()]
    told = {"stages": [runs.CRITIC], "systems": rows, "config": {}}
    runs.write_experiment(workdir, told)
    return data


def config(data, init, **changes) -> supervised.Config:
    short = dict(
        name="persona",
        task="persona",
        data=data,
        prompts=runs.PROMPTS,
        tokenizer="",
        init=str(init),
        adapter_rank=2,
        branches=1,
        batch_size=2,
        epochs=4 / 3,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        evaluate_every=0,
        keep="last",
        checkpoint_every=2,
    )
    return supervised.Config(**short | changes)


@pytest.fixture(scope="module", params=small.DECODERS)
def stages(request, tmp_path_factory):
    """(run directory, data) as `write_stages` makes them."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, write_stages(workdir, request.param)


def leaves_of(folder, **options):
    """(adapters, the arrays of the base) of a folder."""
    learned, base = adapters.split(pretrained.load(folder, **options)[1])
    return learned, jax.tree.leaves(base)


def same(a, b) -> bool:
    return len(a) == len(b) > 0 and all(x is y for x, y in zip(a, b, strict=True))


def equal(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_a_stage_trains_adapters_alone_and_goes_on_after_a_kill(
    stages, tmp_path, monkeypatch
):
    workdir, data = stages
    init = workdir / "dialogue" / "model"
    before = (init / "model.safetensors").read_bytes()
    kept, create = [], BestState.create.__func__

    def record(cls, params, *rest):
        kept.append(adapters.split(params))
        return create(cls, params, *rest)

    monkeypatch.setattr(BestState, "create", classmethod(record))
    result = supervised.run(config(data, init), tmp_path / "whole")
    with stopped_before(batch=4):
        supervised.run(config(data, init), tmp_path / "cut")
    again = supervised.run(config(data, init), tmp_path / "cut")
    assert again["params_sha256"] == result["params_sha256"]
    assert all(params and not rest for params, rest in kept)
    assert len(kept) == 3 and result["steps"] > 3
    assert result["trained_parameters"] < result["parameters"] / 2
    assert (init / "model.safetensors").read_bytes() == before

    folder = tmp_path / "whole" / "persona" / "model"
    learned, base = leaves_of(folder)
    assert params_sha256(learned) == result["params_sha256"]
    assert equal(base, jax.tree.leaves(pretrained.load(init)[1]))
    ends = {p[-1].key: a for p, a in jax.tree_util.tree_leaves_with_path(learned)}
    assert np.abs(ends["lora_b"]).max() > 0  # it began as zeros
    model, params, tokenizer = pretrained.load(folder)
    prompts = supervised.Prompts(tokenizer, runs.PROMPTS)
    asked = config(data, init)
    splits = corpus.load_splits(data)
    valid = supervised.checked_examples(asked, prompts, splits, "valid", tmp_path)
    nll = supervised.make_measure(asked, model, {}, valid)(params)
    np.testing.assert_allclose(np.exp(nll), result["valid_ppl"], rtol=1e-4)


def test_a_stage_goes_on_from_adapters_of_its_rank_and_is_known_as_fresh(tmp_path):
    data = write_stages(tmp_path, "llama")
    tokenizer = str(tmp_path / "dialogue" / "model")
    again = {"tokenizer": tokenizer, "init_stage": "persona"}
    asked = config(data, "", name="second", epochs=1 / 3, **again)
    with pytest.raises(UserError, match=r"adapter_rank=3, but .* of rank 2"):
        supervised.run(dataclasses.replace(asked, adapter_rank=3), tmp_path)
    shutil.rmtree(tmp_path / "second")
    supervised.run(asked, tmp_path)
    run_dir.require_fresh(tmp_path, "second")
    # Its base is the whole model, not the adapters that it went on from.
    base = str(tmp_path / "dialogue" / "model")
    assert pretrained.base_of(tmp_path / "second" / "model") == base
    # Nor is another base taken for the same start.
    model, params, tokenizer = pretrained.load(base)
    other = jax.tree.map(lambda p: p + 1, params)
    pretrained.export(model, other, tokenizer, base)
    with pytest.raises(UserError, match="base weights"):
        supervised.run(asked, tmp_path)


def test_adapters_need_something_to_adapt_and_branches_a_dialogue(stages):
    _, data = stages
    with pytest.raises(ValueError, match="adapter_rank=2 adapts what training starts"):
        config(data, "", tokenizer="bpe:300", branches=0)
    for wrong in ({"task": "response"}, {"batching": "instance"}):
        with pytest.raises(ValueError, match='branches=1 is for task="persona"'):
            config(data, "folder", **wrong)


# ---- REINFORCE ----


@pytest.fixture(scope="module")
def reinforced(stages):
    """(run directory, result, metrics) after two updates."""
    workdir, data = stages
    asked = reinforce.Config(
        data=data,
        prompts=runs.PROMPTS,
        batch_size=4,
        updates=2,
        optimizer=OptimizerConfig(learning_rate=1e-2),
        validation_instances=2,
        evaluate_every=1,
        log_every=1,
        checkpoint_every=0,
    )
    with pytest.MonkeyPatch.context() as patch:
        ones = lambda self, profiles, _: np.ones(len(profiles), np.float32)  # noqa: E731
        patch.setattr(Critic, "score", ones)
        result = reinforce.run(asked, workdir)
        inputs = reinforce._load(asked, workdir)
    metrics = read_metrics(workdir / "reinforce" / "metrics.jsonl")
    return workdir, result, metrics, inputs


def test_both_policies_of_reinforce_are_adapters_of_the_same_arrays(reinforced):
    *_, inputs = reinforced
    persona, response = inputs.policies
    assert same(jax.tree.leaves(persona.base), jax.tree.leaves(response.base))
    for policy in inputs.policies:
        assert adapters.split(policy.learned)[1] == {}
    assert len({n for n in inputs.sums if n.startswith("base of the")}) == 2


def test_reinforce_starts_without_kl_and_exports_adapters_of_the_same_base(reinforced):
    workdir, result, metrics, _ = reinforced
    kl = [r["persona_kl"] for r in metrics if "persona_kl" in r]
    assert abs(kl[0]) < 1e-6 < 1e-5 < kl[1]
    assert result["updates"] == 2
    base = jax.tree.leaves(pretrained.load(workdir / "dialogue" / "model")[1])
    for name in POLICIES:
        before, _ = leaves_of(workdir / name / "model")
        after, found = leaves_of(workdir / "reinforce" / f"last_{name}")
        assert equal(found, base) and not equal(before, after)
        assert (workdir / "reinforce" / f"model_{name}").is_dir()


def test_a_pipeline_and_an_evaluation_hold_the_base_once(reinforced, tmp_path):
    workdir, *_ = reinforced
    moved = shutil.copytree(workdir, tmp_path / "elsewhere" / "run")
    pipeline = Pipeline.load(moved)
    assert pipeline.system == "ours"
    trees = [pipeline.persona[1], pipeline.response[1]]
    bases = [jax.tree.leaves(adapters.split(tree)[1]) for tree in trees]
    assert same(*bases)
    asking = Asking(moved, (), runs.PROMPTS)
    rows = [
        Generators("a", "reinforce/model_response", persona="reinforce/model_persona"),
        Generators("b", "response", persona="persona"),
    ]
    found = [
        jax.tree.leaves(adapters.split(part.params)[1])
        for answers in (row.load(asking) for row in rows)
        for part in (answers.response, answers.persona)
    ]
    assert all(same(found[0], other) for other in found[1:])


def test_an_exported_pipeline_has_its_adapters_merged_and_stands_alone(
    stages, tmp_path
):
    workdir, _ = stages
    run = shutil.copytree(workdir, tmp_path / "run")
    export.run(export.Config(str(tmp_path / "out"), "ours_supervised"), run)
    merged = adapters.merge(pretrained.load(run / "persona" / "model")[1])
    shutil.rmtree(run)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    Pipeline.load(moved)
    assert equal(pretrained.load(moved / "persona")[1], merged)


def test_exported_adapters_bring_a_base_that_has_no_name(stages, tmp_path):
    workdir, _ = stages
    run = shutil.copytree(workdir, tmp_path / "run")
    asked = export.Config(str(tmp_path / "out"), "ours_supervised", adapters=True)
    export.run(asked, run)
    mine, whole = adapters.split(pretrained.load(run / "persona" / "model")[1])
    half = jax.tree.map(lambda p: p.astype(jnp.float16), mine)
    shutil.rmtree(run)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    Pipeline.load(moved)
    bases = {}
    for name in POLICIES:
        learned, base = leaves_of(moved / name, bases=bases)
        if name == "persona":
            assert equal(learned, half) and equal(base, whole)
    assert len(bases) == 1 and (moved / "base").is_dir()
    file = moved / "base" / "model.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UserError, match="its weights are damaged"):
        Pipeline.load(moved)


def test_the_same_adapters_on_two_bases_are_two_models(tmp_path):
    """Fresh ones are: what one has said is not what the other would say."""
    write_stages(tmp_path, "gpt2")
    model, params, tokenizer = pretrained.load(tmp_path / "dialogue" / "model")
    other = tmp_path / "other" / "model"
    pretrained.export(model, jax.tree.map(lambda p: 2 * p, params), tokenizer, other)
    for name, base in [("persona", tmp_path / "dialogue/model"), ("response", other)]:
        folder = tmp_path / name / "model"
        tree = adapters.add(params, 2, 0)
        pretrained.export(model, tree, tokenizer, folder, str(base))
        write_json(tmp_path / name / "result.json", runs.FINISHED)
    asking = Asking(tmp_path, (), runs.PROMPTS)
    answers = Generators("a", "response", persona="persona").load(asking)
    assert answers.response.name != answers.persona.name
    out = tmp_path / "out"
    export.run(export.Config(str(out), "ours_supervised", adapters=True), tmp_path)
    for name, base in [("persona", tmp_path / "dialogue/model"), ("response", other)]:
        carried = leaves_of(out / name)[1]
        assert equal(carried, jax.tree.leaves(pretrained.load(base)[1]))
    export.run(export.Config(str(out), "ours_supervised"), tmp_path)
    assert not (out / "base").exists() and not (out / "base_response").exists()


@pytest.mark.parametrize("kind", small.DECODERS)
def test_an_update_of_adapters_is_that_of_their_product(kind):
    """W = W0 + A B: the gradient of A is dW B', that of B is A' dW, base untouched."""
    prompts = small.Prompts(small.tokenizer(), runs.PROMPTS)
    model, params = small.DECODERS[kind](
        len(prompts.tokenizer), n_positions=64, n_layer=1
    )
    learned, base = learned_of(params, 0)
    merged = adapters.merge(adapters.join(learned, base))
    asked = reinforce.Config(prompts=runs.PROMPTS, batch_size=4, kl_coefficient=0.1)
    sample = make_sampler((model, model), runs.PROMPTS, asked.decodings, prompts.end_id)
    prompted = prompts_of(prompts, instances(runs.dialogues("train", 2))[:4])
    rollouts = jax.device_get(sample(merged, merged, prompted, row_keys(0, range(4))))
    tx, signs = optax.sgd(0.1), np.array([1, -1, 1, 1], np.float32)

    def updated(policy):
        copied = functools.partial(jax.tree.map, jnp.array)
        both = [TrainState.create(copied(policy.learned), tx) for _ in range(2)]
        state = ReinforceState(jnp.array(0), *both, Best.create({}), {}, {})
        only = dataclasses.replace(asked, train_response=False).objective
        update = make_update(only, Policies(policy, policy), tx)
        state, metrics = update(state, prompted, rollouts, (signs, signs), True)
        return state.persona.params, metrics

    new, told = updated(Policy(model, learned, base))
    whole, expected = updated(Policy(model, merged, {}))
    assert abs(float(told["persona_kl"])) < 1e-5
    np.testing.assert_allclose(
        told["persona_loss"], expected["persona_loss"], rtol=1e-4
    )

    def check(new, old, after, before):
        if "lora_a" not in new:
            return sum(check(new[n], old[n], after[n], before[n]) for n in new)
        a, b = old["lora_a"], old["lora_b"]
        step = after["kernel"] - before["kernel"]
        largest = np.abs(step).max()
        assert largest > 1e-4
        np.testing.assert_allclose(new["lora_a"] - a, step @ b.T, atol=1e-3 * largest)
        np.testing.assert_allclose(new["lora_b"] - b, a.T @ step, atol=1e-3 * largest)
        return 1

    assert check(new, learned, whole, merged) == {"gpt2": 4, "llama": 7}[kind]
