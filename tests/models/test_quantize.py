"""Smaller weights: exact integers, bounded rounding, and nothing cast in a step."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from ppg_jax.data.batching import collate
from ppg_jax.errors import UserError
from ppg_jax.inference.generation import generate, row_keys
from ppg_jax.inference.prefixes import pad_left
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import target_log_probs
from ppg_jax.models import product
from ppg_jax.models.dense import Dense
from ppg_jax.models.quantize import (
    for_decoding,
    for_inference,
    lookup,
    quantize,
    to_int8,
)
from ppg_jax.rl.rollouts import completed
from tests import models_for_tests as small

tiles = pytest.mark.skipif(
    not product.available(), reason="this CPU has no AMX, or jaxlib no oneDNN"
)
halves = pytest.mark.skipif(
    not product.has_bfloat16(), reason="this CPU has no avx512_bf16"
)
octets = pytest.mark.skipif(not product.has_int8(), reason="this CPU has no avx2")
SMALLER = ("bfloat16", "int8")
FAST = [pytest.param("bfloat16", marks=halves), pytest.param("int8", marks=octets)]
VOCABULARY = 97


@functools.cache
def model_of(weights: str, decoder=small.gpt2, **sizes):
    """Smaller weights, too, where they do not pay: XLA multiplies them as well."""
    model, params = decoder(VOCABULARY, n_embd=64, **sizes)
    # Attention that chooses all or nothing would flip at the least rounding.
    params = small.scaled(params, 0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product, "has_bfloat16", lambda: True)
        patch.setattr(product, "has_int8", lambda: True)
        return model, quantize(params, weights)


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("has_tiles", [pytest.param(True, marks=tiles), False])
def test_an_int8_product_is_exact(rows, has_tiles, monkeypatch):
    monkeypatch.setattr(product, "available", lambda: has_tiles)
    rng = np.random.default_rng(0)
    # So long that the sums are no longer whole numbers of float32.
    a, b = (rng.integers(-127, 128, (n, 3072), np.int8) for n in (rows, 50))
    b[0], a[0] = 127, 127
    multiply = functools.partial(product.product, "rd,fd->rf", dtype=jnp.int32)
    y = np.asarray(jax.jit(multiply)(a, b))
    assert y.max() > 2**24
    np.testing.assert_array_equal(y, a.astype(np.int64) @ b.astype(np.int64).T)


def test_int8_is_off_by_half_a_step_of_its_row_at_most():
    x = (
        jax.random.normal(jax.random.key(0), (5, 64))
        * jnp.array([[1, 9, 0, 1e-9, 70]]).T
    )
    rows, scale = to_int8(x)
    np.testing.assert_allclose(scale, np.abs(x).max(1) / 127, rtol=1e-6, atol=1e-30)
    off = np.abs(rows * scale[:, None] - x)
    assert (off <= 0.501 * scale[:, None]).all()


@octets
@pytest.mark.parametrize("shape", [(64,), (1, 64), (7, 64), (2, 3, 64)])
def test_an_int8_layer_is_within_the_bound_of_its_rounding(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    params, y, ours = layers(x, "int8")
    kernel = np.asarray(params["kernel"])
    rows = np.asarray(x).reshape(-1, 64)
    row_step = np.abs(rows).max(1, keepdims=True) / 254
    column_step = np.abs(kernel).max(0, keepdims=True) / 254
    bound = row_step * np.abs(kernel).sum(0, keepdims=True)
    bound = bound + column_step * np.abs(rows).sum(1, keepdims=True)
    bound = bound + 64 * row_step * column_step
    off = np.abs(ours - y).reshape(bound.shape)
    assert (off <= bound * 1.001 + 1e-6).all()
    assert off.max() > 1e-4  # it did round


@halves
@pytest.mark.parametrize("shape", [(64,), (1, 64), (7, 64), (2, 3, 64)])
def test_a_bfloat16_layer_is_within_the_bound_of_its_rounding(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    params, y, ours = layers(x, "bfloat16")
    # Each factor is off by 2^-9 of itself, and their product by 2^-8 and a little.
    rows = np.abs(np.asarray(x)).reshape(-1, 64)
    bound = (rows @ np.abs(np.asarray(params["kernel"]))) * 2**-7.99
    off = np.abs(ours - y).reshape(bound.shape)
    assert (off <= bound + 1e-6).all()
    assert off.max() > 1e-4


def layers(x, weights):
    """The parameters, and what the float32 and the smaller layer make of x."""
    layer = Dense(24)
    params = layer.init(jax.random.key(1), x)["params"]
    params["bias"] += jnp.arange(24.0)
    tree = {"layer": params, "wte": {"embedding": jnp.ones((3, 4))}}
    smaller = quantize(tree, weights)["layer"]
    assert smaller["weight"].dtype == jnp.dtype(weights)
    y, ours = (jax.jit(layer.apply)({"params": p}, x) for p in (params, smaller))
    assert y.shape == ours.shape and ours.dtype == jnp.float32
    return params, np.asarray(y), np.asarray(ours)


@pytest.mark.parametrize("weights", SMALLER)
def test_a_row_of_the_table_is_looked_up_as_it_is_stored(weights):
    table = jax.random.normal(jax.random.key(0), (11, 8))
    stored = {"weight": table.astype(jnp.bfloat16)}
    if weights == "int8":
        stored = dict(zip(("weight", "scale"), to_int8(table), strict=True))
    tokens = jnp.array([[3, 0], [10, 3]])
    rows = jax.jit(lookup)(tokens, **stored)
    whole = stored["weight"].astype(jnp.float32)
    whole *= stored.get("scale", jnp.ones(11))[:, None]
    np.testing.assert_array_equal(rows, whole[tokens])


@pytest.mark.parametrize("weights", SMALLER)
def test_log_probs_are_nearly_those_of_float32(weights, decoder):
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (4, 40))
    exact, ours = (log_probs(name, tokens, decoder) for name in ("float32", weights))
    # Rounding adds noise to a product: of bfloat16 2^-9 of each factor at most, 0.3 %
    # together; of int8 steps of 1/127 of the largest, some 3 standard deviations: 0.7 %
    # of each factor, 1 % together. Of nine products in a row that is three times as
    # much; twice that is allowed for the root of the mean square. SwiGLU multiplies two
    # rounded products: half as much again, and a few values far off, for a small row
    # is divided by its own length. 0.1 % of the values may be more than 10 times off.
    factor = 1.5 if decoder is small.llama else 1.0
    noise = {"bfloat16": 0.009, "int8": 0.03}[weights] * factor * exact.std()
    off = np.abs(ours - exact)
    assert np.sqrt((off**2).mean()) < 2 * noise
    assert np.quantile(off, 0.999) < 10 * noise


def log_probs(weights, tokens, decoder):
    model, params = model_of(weights, decoder)
    logits = jax.jit(model.apply)({"params": params}, tokens)
    return np.asarray(jax.nn.log_softmax(logits))


PROMPTS = [[5, 6, 7, 8, 9], [1, 2], [30, 31, 32, 33, 34, 35, 36], [90], [4, 4, 4]]


def completions(weights, prompts, width=8, steps=20, decoder=small.gpt2):
    model, params = model_of(weights, decoder)
    tokens, mask = pad_left(prompts, width, 0)
    keys = row_keys(0, range(len(prompts)))
    return jax.device_get(generating(model, steps)(params, tokens, mask, keys))


@functools.cache
def generating(model, steps):
    """Greedy texts; traced once for all rows that are asked for alone."""
    decoding = Decoding(max_new_tokens=steps, temperature=0.0)
    run = functools.partial(
        generate, model, decoding=decoding, end_id=VOCABULARY, pad_id=0
    )
    return jax.jit(run)


@pytest.mark.parametrize("weights", SMALLER)
def test_the_first_greedy_tokens_are_mostly_those_of_float32(weights, decoder):
    # After the first difference texts go their own ways, so only beginnings count.
    exact, ours = (
        completions(name, PROMPTS, steps=4, decoder=decoder).completion
        for name in ("float32", weights)
    )
    assert (exact == ours).mean() >= 0.7


@pytest.mark.parametrize("weights", FAST)
def test_a_row_has_the_same_completion_alone_and_in_a_batch(weights):
    together = completions(weights, PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        alone = completions(weights, [prompt])
        np.testing.assert_array_equal(alone.completion[0], together.completion[row])
        # Sums in another order tip an activation to the next step of int8, a hundredth
        # of the largest, now and then.
        near = {"bfloat16": 1e-3, "int8": 0.03}[weights]
        np.testing.assert_allclose(
            alone.log_probs[0], together.log_probs[row], atol=near
        )


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("weights", ["float32", *FAST])
def test_no_weight_is_cast_or_moved_in_a_decode_step(weights, rows):
    model, params = model_of(weights, n_layer=1)
    prompt, mask = np.zeros((rows, 8), np.int32), np.ones((rows, 8), bool)
    prefill = functools.partial(model.apply, method="prefill")
    step = functools.partial(model.apply, method="decode_step")
    variables = {"params": params}
    _, cache = jax.jit(prefill, static_argnums=3)(variables, prompt, mask, 16)
    step = jax.jit(step).lower(variables, cache, prompt[:, 0], prompt[:, 0])
    program = step.compile().as_text()
    called = weights != "float32" and product.available()
    called |= weights == "int8" and rows >= product.SEVERAL and product.int8_by_call()
    assert ("onednn$matmul" in program) == called
    made = re.findall(r"= \w+\[([\d,]+)\]\S* (?:convert|copy|transpose)\(", program)
    assert made
    weights = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    found = [sorted(map(int, shape.split(","))) for shape in made]
    assert [shape for shape in weights if sorted(shape) in found] == []


def test_float32_is_laid_out_by_output_and_computes_the_same(decoder, monkeypatch):
    monkeypatch.setattr(product, "reads_by_input", lambda: False)
    model, params = decoder(VOCABULARY)
    stored = quantize(params, "float32")
    before, after = (traverse_util.flatten_dict(t, sep="/") for t in (params, stored))
    kernels = [path for path in before if path.endswith("/kernel")]
    assert len(kernels) in (8, 14)
    for path in kernels:
        weight = after[path.replace("/kernel", "/weight")]
        np.testing.assert_array_equal(weight, before[path].T)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(stored)}
    assert kinds == {np.dtype("float32")}
    tokens = np.arange(12).reshape(2, 6)
    apply = jax.jit(model.apply)
    before, after = (apply({"params": p}, tokens) for p in (params, stored))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_float32_stays_where_the_cpu_reads_it_faster_as_it_is(decoder, monkeypatch):
    monkeypatch.setattr(product, "reads_by_input", lambda: True)
    _, params = decoder(VOCABULARY)
    assert quantize(params, "float32") is params
    assert for_decoding(params, jnp.float32) is params
    host = jax.tree.map(np.asarray, params)
    assert quantize(host, "float32") is host
    smaller = for_decoding(params, jnp.bfloat16)
    paths = traverse_util.flatten_dict(smaller, sep="/")
    assert not any(path.endswith("kernel") for path in paths)


@pytest.mark.parametrize(("vendor", "by_input"), [("AuthenticAMD", True), ("X", False)])
def test_which_cpu_reads_kernels_as_they_are(monkeypatch, vendor, by_input):
    monkeypatch.setattr(product, "_cpu", lambda field: f"{field} : {vendor}")
    assert product.reads_by_input.__wrapped__() is by_input


def test_a_head_of_its_own_is_laid_out_and_made_smaller_too():
    sizes = {"n_layer": 1, "tie_word_embeddings": False}
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (4, 40))
    logits = {}
    for weights in ("float32", *SMALLER):
        model, params = model_of(weights, small.llama, **sizes)
        (head,) = params["lm_head"].keys() & {"weight", "kernel"}
        assert params["lm_head"][head].dtype == jnp.dtype(weights)
        logits[weights] = np.asarray(jax.jit(model.apply)({"params": params}, tokens))
    for weights in SMALLER:
        off = np.abs(logits[weights] - logits["float32"])
        assert 0 < off.mean() < 0.05 * logits["float32"].std()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("bfloat16", marks=halves)]
)
def test_what_is_laid_out_already_is_left_alone(dtype, precision, monkeypatch):
    monkeypatch.setattr(product, "reads_by_input", lambda: False)
    _, params = small.gpt2(VOCABULARY)
    with jax.default_matmul_precision(precision):
        once = for_decoding(params, dtype)
        again = for_decoding(once, dtype)
    assert jax.tree.structure(once) == jax.tree.structure(again)
    pairs = zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True)
    assert all(a is b for a, b in pairs)
    rounded = "bfloat16" in (dtype, precision)
    assert ("weight" in once["wte"]) == rounded
    kind = once["h_0"]["attn"]["c_attn"]["weight"].dtype
    assert kind == jnp.dtype("bfloat16" if rounded else "float32")


def test_bfloat16_samples_are_scored_as_they_were_sampled():
    model, params = small.gpt2(VOCABULARY)
    model = model.clone(dtype=jnp.bfloat16)
    params = small.scaled(params, 0.4)
    tokens, mask = pad_left(PROMPTS, 8, 0)
    decoding = Decoding(max_new_tokens=20, temperature=1.0)
    run = functools.partial(
        generate, model, decoding=decoding, end_id=VOCABULARY, pad_id=0
    )
    keys = row_keys(0, range(len(PROMPTS)))
    rollout = jax.device_get(jax.jit(run)(params, tokens, mask, keys))
    batch = collate(completed(rollout))
    again = jax.jit(functools.partial(target_log_probs, model))(params, batch)
    sampled = rollout.log_probs[rollout.completion_mask]
    # Eight bits of mantissa, in states that are added up in another order.
    np.testing.assert_allclose(again[batch.target_mask], sampled, atol=0.05)


def test_a_loop_of_decode_steps_reads_weights_that_were_laid_out_before_it(monkeypatch):
    """The transposes are there, and none of them in the loop."""
    monkeypatch.setattr(product, "reads_by_input", lambda: False)
    model, params = small.gpt2(VOCABULARY, n_embd=64, n_layer=1)
    tokens, mask = pad_left(PROMPTS, 8, 0)
    decoding = Decoding(max_new_tokens=4, temperature=0.0)
    run = functools.partial(
        generate, model, decoding=decoding, end_id=VOCABULARY, pad_id=0
    )
    keys = row_keys(0, range(len(PROMPTS)))
    program = jax.jit(run).lower(params, tokens, mask, keys).compile().as_text()
    turned = r"= f32\[256,64\]\S* (?:copy|transpose|fusion)\("
    entry = program[program.index("\nENTRY") :]
    assert re.search(turned, entry)
    loops = re.findall(r"while\(.*body=%(\S+?)[,\s]", program)
    assert loops
    for name in loops:
        body = program[program.index(f"\n%{name} ") :].partition("\n}")[0]
        assert "c_fc" in body and not re.search(turned, body)


@pytest.mark.parametrize("weights", SMALLER)
def test_where_they_do_not_pay_one_line_says_what_to_use(weights, monkeypatch):
    monkeypatch.setattr(product, "_cpu_flags", set)
    for has in (product.has_bfloat16, product.has_int8):
        monkeypatch.setattr(product, has.__name__, has.__wrapped__)
    with pytest.raises(UserError, match="use weights='float32'") as told:
        quantize({}, weights)
    assert "\n" not in str(told.value)


def test_where_int8_pays_and_bfloat16_does_not_it_is_named(monkeypatch):
    monkeypatch.setattr(product, "has_bfloat16", lambda: False)
    monkeypatch.setattr(product, "has_int8", lambda: True)
    with pytest.raises(UserError, match="use weights='int8' or 'float32', or"):
        quantize({}, "bfloat16")


def test_on_a_gpu_bfloat16_is_all_that_inference_computes_in(monkeypatch):
    # A vocabulary of its own: what is compiled here must not serve another test.
    model, params = small.gpt2(VOCABULARY + 6)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    model, params = for_inference(model, params, "bfloat16")
    assert model.dtype == jnp.bfloat16
    kinds = {str(p.dtype) for p in jax.tree.leaves(params["h_0"]["mlp"]) if p.ndim > 1}
    assert kinds == {"bfloat16"}
    assert params["wte"]["weight"].dtype == jnp.bfloat16
    with pytest.raises(UserError, match="'bfloat16' on a GPU"):
        for_inference(model, params, "int8")


@halves
def test_where_products_round_samples_are_scored_as_they_were_sampled():
    model, params = model_of("float32")
    with jax.default_matmul_precision("bfloat16"):
        rollout = completions("float32", PROMPTS)
        batch = collate(completed(rollout))
        again = jax.jit(functools.partial(target_log_probs, model))(params, batch)
    sampled = rollout.log_probs[rollout.completion_mask]
    # Attention over the cache is not rounded, that of the score is.
    np.testing.assert_allclose(again[batch.target_mask], sampled, atol=0.02)
    exact = completions("float32", PROMPTS)
    assert np.abs(exact.log_probs[:, 0] - rollout.log_probs[:, 0]).max() > 1e-4
