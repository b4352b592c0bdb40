"""Products by the CPU's tiles are products; without tiles they are plain ones."""

import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.losses import token_log_probs
from ppg_jax.models import adapters, product
from ppg_jax.models.product import einsum
from ppg_jax.models.quantize import quantize
from tests import models_for_tests as small

SIZES = {"b": 2, "n": 3, "t": 40, "s": 24, "h": 16, "r": 70, "d": 32, "f": 48}
HEADS = "btnh,bsnh->bnts"
SPECS = (
    "rd,df->rf",
    "rf,df->rd",
    "rd,rf->df",
    HEADS,
    "bnts,bsnh->btnh",
    "btnh,bnhs->bnts",
)
tiles = pytest.mark.skipif(
    not product.available(), reason="this CPU has no AMX, or jaxlib no oneDNN"
)


halves = pytest.mark.skipif(
    not product.has_bfloat16(), reason="this CPU has no avx512_bf16"
)


def operands(spec, dtype=jnp.float32):
    shapes = [[SIZES[x] for x in axes] for axes in spec.split("->")[0].split(",")]
    rng = np.random.default_rng(0)  # each shape that JAX draws is a program to compile
    drawn = (rng.standard_normal(shape, np.float32) for shape in shapes)
    return [jnp.asarray(array, dtype) for array in drawn]


def results(function, a, b):
    """Value and both gradients."""

    def loss(a, b):
        y = function(a, b)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(a, b)
    return y, *grads


def close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.float32(a), np.float32(b)
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("spec", SPECS)
def test_in_float32_it_is_einsum_with_its_gradients(spec):
    a, b = operands(spec)
    ours = results(lambda a, b: einsum(spec, a, b), a, b)
    theirs = results(lambda a, b: jnp.einsum(spec, a, b), a, b)
    close(ours, theirs, 1e-6)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("has_tiles", [pytest.param(True, marks=tiles), False])
def test_bfloat16_is_summed_in_float32(spec, has_tiles, monkeypatch):
    monkeypatch.setattr(product, "available", lambda: has_tiles)
    a, b = operands(spec, jnp.bfloat16)
    exact = results(
        lambda a, b: jnp.einsum(spec, a, b), *(x.astype(jnp.float32) for x in (a, b))
    )
    ours = results(lambda a, b: einsum(spec, a, b), a, b)
    assert [x.dtype for x in ours] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]
    close(ours[:1], exact[:1], 1e-6)
    close(ours[1:], exact[1:], 1e-2)


@tiles
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("axis", "tsrf")
def test_a_single_row_is_multiplied_as_any_other(spec, axis, monkeypatch):
    monkeypatch.setitem(SIZES, axis, 1)
    a, b = operands(spec, jnp.bfloat16)
    exact = jnp.einsum(spec, a.astype(jnp.float32), b.astype(jnp.float32))
    close([jax.jit(lambda a, b: einsum(spec, a, b))(a, b)], [exact], 1e-6)


@tiles
@pytest.mark.parametrize("spec", SPECS)
def test_less_than_float32_is_used_only_where_it_is_allowed(spec):
    a, b = operands(spec)
    exact = np.asarray(jnp.einsum(spec, a, b))
    off = {}
    for precision in (None, "highest", "bfloat16"):
        with jax.default_matmul_precision(precision):
            y = np.asarray(jax.jit(lambda a, b: einsum(spec, a, b))(a, b))
        off[precision] = np.abs(y - exact).max() / np.abs(exact).max()
    assert max(off[None], off["highest"]) < 1e-6
    assert 1e-4 < off["bfloat16"] < 1e-2


@tiles
@pytest.mark.parametrize("spec", SPECS)
def test_gradients_of_rounded_products_are_those_of_the_operands(spec):
    a, b = operands(spec)
    y, exact = jax.vjp(lambda a, b: jnp.einsum(spec, a, b), a, b)
    dy = jax.random.normal(jax.random.key(1), y.shape)
    with jax.default_matmul_precision("bfloat16"):
        ours = jax.jit(lambda dy: jax.vjp(lambda *x: einsum(spec, *x), a, b)[1](dy))(dy)
    assert {x.dtype for x in ours} == {jnp.dtype("float32")}
    close(ours, exact(dy), 1e-2)
    assert any(np.abs(x - z).max() > 1e-4 for x, z in zip(ours, exact(dy), strict=True))


@tiles
@pytest.mark.parametrize("spec", ["rd,fd->rf", "rd,df->rf", "rd,rf->df", HEADS])
def test_nothing_is_transposed_for_it(spec):
    if spec == HEADS and jax.__version_info__ >= (0, 11):
        pytest.skip("jaxlib 0.11 lays heads out for it")
    a, b = operands(spec, jnp.bfloat16)
    program = jax.jit(lambda a, b: einsum(spec, a, b)).lower(a, b).compile().as_text()
    assert "onednn$matmul" in program
    assert "copy(" not in program
    assert "transpose(" not in program


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("bfloat16", marks=tiles),
        pytest.param(
            "float32",
            marks=pytest.mark.skipif(
                not product.rounds_by_call(), reason="nothing is rounded by a call here"
            ),
        ),
    ],
)
def test_no_program_of_it_is_written_to_the_compile_cache(kind, tmp_path):
    """To write one is an error of one jaxlib and the end of the process in another."""
    code = (
        "import os, jax, jax.numpy as jnp; "
        f"jax.config.update('jax_compilation_cache_dir', {str(tmp_path)!r}); "
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0); "
        "before = jax.jit(jnp.sin).lower(1.0).compile(); "
        f"assert len(os.listdir({str(tmp_path)!r})) > 0; "
        "from ppg_jax.models.product import product; "
        "jax.config.update('jax_default_matmul_precision', 'bfloat16'); "
        f"ones = jnp.ones((16, 16), jnp.{kind}); "
        "jax.jit(lambda a, b: product('mk,kn->mn', a, b))(ones, ones); "
        f"assert not any('lambda' in x for x in os.listdir({str(tmp_path)!r}))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the call is x86's")
@pytest.mark.parametrize("saturates", [True, False])
def test_a_call_that_sums_in_too_few_bits_is_not_taken(saturates, monkeypatch):
    """As oneDNN's does on a CPU with avx2 and without VNNI."""

    def call(spec, a, b, dtype):
        y = product.plain(spec, a, b, dtype)
        return jnp.clip(y, -(2**15), 2**15 - 1) if saturates else y

    monkeypatch.setattr(product, "_onednn", call)
    assert product._are_right([(jnp.int8, jnp.int32)]) != saturates


# ---- a CPU that multiplies bfloat16 numbers, and has no tiles ----

MATRICES = [spec for spec in SPECS if len(spec.split("->")[1]) == 2]
BATCHES = [spec for spec in SPECS if spec not in MATRICES]


@pytest.fixture
def no_tiles(monkeypatch):
    """Nor the call, so that XLA's own products are what is tested."""
    monkeypatch.setattr(product, "available", lambda: False)
    monkeypatch.setattr(product, "rounds_by_call", lambda: False)


def rounded(x):
    return np.asarray(x).astype(jnp.bfloat16).astype(np.float32)


def both_ways(spec, a, b, dy):
    """Value and gradients where products may round."""

    @jax.jit
    def run(a, b, dy):
        y, back = jax.vjp(lambda a, b: einsum(spec, a, b), a, b)
        return y, *back(dy)

    with jax.default_matmul_precision("bfloat16"):
        return run(a, b, dy)


def of_einsum(spec, a, b, dy):
    """Value and gradients of the plain product."""

    @jax.jit
    def run(a, b, dy):
        y, back = jax.vjp(lambda a, b: jnp.einsum(spec, a, b), a, b)
        return y, *back(dy)

    return run(a, b, dy)


@halves
@pytest.mark.parametrize("rows", [1, 70, 40])
@pytest.mark.parametrize("spec", MATRICES)
def test_rounded_products_are_those_of_rounded_operands(
    spec, rows, no_tiles, monkeypatch
):
    """Also where both are summed over their first axes, whichever is the larger."""
    monkeypatch.setitem(SIZES, "r", rows)
    monkeypatch.setitem(SIZES, "f", 16 if rows == 40 else 48)
    a, b = operands(spec)
    exact = np.einsum(spec, a, b)
    dy = np.sin(np.arange(exact.size, dtype=np.float32)).reshape(exact.shape)
    ours = both_ways(spec, a, b, dy)
    assert {x.dtype for x in ours} == {jnp.dtype("float32")}
    close(ours, of_einsum(spec, *map(rounded, (a, b, dy))), 1e-6)
    assert np.abs(ours[0] - exact).max() > 1e-4 * np.abs(exact).max()  # it did round


@halves
@pytest.mark.parametrize("spec", BATCHES)
def test_batches_of_matrices_are_not_rounded_without_tiles(spec, no_tiles):
    a, b = operands(spec)
    dy = np.ones_like(np.einsum(spec, a, b))
    close(both_ways(spec, a, b, dy), of_einsum(spec, a, b, dy), 1e-6)


@pytest.mark.skipif(
    not product.rounds_by_call(), reason="this CPU, or jaxlib, rounds by no call"
)
@pytest.mark.parametrize("spec", SPECS)
def test_without_tiles_rounded_products_go_to_the_same_call(spec, monkeypatch):
    """Batches, too, and sums over the first axes; not weights that are stored so."""
    monkeypatch.setattr(product, "available", lambda: False)
    a, b = operands(spec)
    exact = np.einsum(spec, a, b)
    dy = np.sin(np.arange(exact.size, dtype=np.float32)).reshape(exact.shape)
    ours = both_ways(spec, a, b, dy)
    close(ours, of_einsum(spec, *map(rounded, (a, b, dy))), 1e-6)
    assert np.abs(ours[0] - exact).max() > 1e-4 * np.abs(exact).max()
    called = {}
    for kind in (jnp.float32, jnp.bfloat16):
        with jax.default_matmul_precision("bfloat16"):
            multiply = jax.jit(lambda a, b: einsum(spec, a, b))
            text = multiply.lower(a.astype(kind), b.astype(kind)).as_text()
        called[kind] = "onednn" in text
    assert called == {jnp.float32: True, jnp.bfloat16: False}


@pytest.mark.parametrize("spec", SPECS)
def test_a_cpu_without_bfloat16_rounds_nothing(spec, no_tiles, monkeypatch):
    monkeypatch.setattr(product, "has_bfloat16", lambda: False)
    a, b = operands(spec)
    dy = np.ones_like(np.einsum(spec, a, b))
    close(both_ways(spec, a, b, dy), of_einsum(spec, a, b, dy), 1e-6)
    with jax.default_matmul_precision("bfloat16"):
        assert not product.rounds()


@pytest.mark.parametrize("has", [pytest.param(True, marks=halves), False])
@pytest.mark.parametrize("rank", [0, 2])
def test_a_decoder_trains_where_products_may_round(
    has, rank, decoder, no_tiles, monkeypatch
):
    monkeypatch.setattr(product, "has_bfloat16", lambda: has)
    # A vocabulary of its own: what is compiled here must not serve another test.
    size = 83 + has
    model, params = decoder(size, n_layer=1, n_positions=64)
    params = small.scaled(params, 0.4)
    params = adapters.add(params, rank, 0) if rank else params
    learned, base = adapters.split(params)
    tokens = np.random.default_rng(0).integers(size, size=(2, 16))

    def update(precision):
        with jax.default_matmul_precision(precision):
            ready = quantize(base, "float32") if base else base

            def loss(learned):
                variables = {"params": adapters.join(learned, ready)}
                logits = model.apply(variables, tokens)
                return -jnp.mean(token_log_probs(logits[:, :-1], tokens[:, 1:]))

            return jax.jit(jax.value_and_grad(loss))(learned)

    (exact, expected), (near, grads) = update("float32"), update("bfloat16")
    np.testing.assert_allclose(near, exact, rtol=0.02)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=0.1 * np.abs(b).max() + 1e-6)
    assert bool(near != exact) == has
