"""What a config of an evaluation decides, and what its systems share."""

import jax
import jax.numpy as jnp
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.errors import UserError
from ppg_jax.inference import generator
from ppg_jax.stages import evaluate
from tests import models_for_tests as small
from tests import run_for_tests as runs


def test_the_config_says_what_generators_compute_in():
    config = evaluate.Config(dtype="bfloat16")
    bench = evaluate.Bench(config, runs.finished_run(), [])
    model, params, _ = bench._load(("persona", "model"))
    assert model.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    with pytest.raises(ValueError, match="dtype='float8'"):
        evaluate.Config(dtype="float8")


ASKED = instances(small.DIALOGUES[1:])


def bench(workdir, **options) -> evaluate.Bench:
    config = evaluate.Config(prompts=runs.PROMPTS, **options)
    return evaluate.Bench(config, workdir, ASKED)


def test_a_response_shares_no_randomness_with_a_persona(monkeypatch):
    drawn, row_keys = [], generator.row_keys

    def record(seed, ids):
        drawn.append({(seed, int(i)) for i in ids})
        return row_keys(seed, ids)

    monkeypatch.setattr(generator, "row_keys", record)
    sampling = bench(runs.finished_run(), temperature=1.0)
    sampling.responses(("persona", "model"), ("response", "model"), "generated")
    personas, responses = drawn
    assert len(personas) == len(responses) == len(ASKED)
    assert not personas & responses


def programs(of: evaluate.Bench) -> list:
    """What generates, what scores, and how many shapes the first has compiled."""
    return [*of._generators.values(), *of._scorers.values(), of.compile_count]


def test_systems_with_models_of_one_form_share_their_programs(tmp_path):
    for seed, name in enumerate(("response", "response_without")):
        runs.export_generator(tmp_path / name / "model", seed)
    both = bench(tmp_path)
    first = both.responses(None, ("response", "model"), "none")
    compiled = programs(both)
    second = both.responses(None, ("response_without", "model"), "none")
    assert len(compiled) == 3 and programs(both) == compiled
    alone = bench(tmp_path)
    assert alone.responses(None, ("response_without", "model"), "none") == second
    assert first != second


def test_a_row_that_is_told_something_unknown_is_refused_by_name():
    with pytest.raises(UserError, match="told 'golden', expected none, gold or gen"):
        bench(runs.finished_run()).responses(
            ("persona", "model"), ("response", "model"), "golden"
        )
