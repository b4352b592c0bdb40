"""All ways of the products race compute the same product."""

import numpy as np
import pytest

from ppg_jax.benchmark import products


@pytest.mark.parametrize("rows", [1, 5])
def test_each_way_gives_the_same_product(rows):
    shape = products.Shape(rows, 48, 20)
    found = {name: run() for name, run in products.ways(shape, 3).items()}
    assert len(found) >= 2
    exact = found["XLA, [in, out]"]
    assert len(exact) == 3 and exact[0].shape == (rows, 20)
    for name, made in found.items():
        # Factors of bfloat16 are off by 2^-9 each, of sums of 48 of them.
        atol = 0.2 if "bfloat16" in name else 1e-4
        for a, b in zip(made, exact, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=atol)


def test_a_record_has_the_speed_of_each(monkeypatch):
    monkeypatch.setattr(products, "FRESH_BYTES", 1 << 16)
    monkeypatch.setattr(products, "ROUNDS", 1)
    record = products.measure(products.Shape(4, 64, 32))
    assert record["name"] == "4 x 64 x 32"
    assert min(record["gigaflops"].values()) > 0
