"""Compiled as users have it: results are held against PyTorch's closely."""

import jax
import pytest

EFFORT = "jax_disable_most_optimizations"


@pytest.fixture(scope="module", autouse=True)
def all_optimizations():
    before = jax.config.values[EFFORT]
    jax.config.update(EFFORT, False)
    yield
    jax.config.update(EFFORT, before)
