"""What a config of an evaluation decides."""

import jax
import jax.numpy as jnp
import pytest

from ppg_jax import evaluate
from tests import run_for_tests as runs


def test_the_config_says_what_generators_compute_in():
    config = evaluate.Config(dtype="bfloat16")
    bench = evaluate.Bench(config, runs.finished_run(), [])
    model, params, _ = bench._load(("persona", "model"))
    assert model.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    with pytest.raises(ValueError, match="dtype='float8'"):
        evaluate.Config(dtype="float8")
