"""PAML, its loss and its meta-gradients, and an independent PyTorch writing of Madotto
et al.'s equations.

It goes row by row and task by task, without padding, with PyTorch's own convolutions,
where ours computes whole batches of tasks.
"""

import dataclasses
import math

import jax
import numpy as np
import pytest
from flax import traverse_util

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')

from torch.nn import functional  # noqa: E402

from ppg_jax.data.speaker_tasks import Turns  # noqa: E402
from ppg_jax.data.vocabulary import END, PAD, START  # noqa: E402
from ppg_jax.inference import adapting, pointer  # noqa: E402
from ppg_jax.models.paml import PAML, PAMLConfig, initial_params  # noqa: E402
from ppg_jax.stages import paml  # noqa: E402

SIZES = PAMLConfig(vocab_size=11, width=6, layers=2, heads=2, depth=4, filter=5)
# Gradients of gradients of one layer are long enough to compile.
ONE = dataclasses.replace(SIZES, layers=1)
CONFIG = paml.Config("paml", model=ONE, inner_rate=0.2, inner_steps=2)
# Tasks, each of a dialogue to adapt to and another one, each of turns.
CONTEXTS = [[[[4, 5, 6], [7]], [[8, 9, 4, 4]]], [[[5]], [[6, 1, 10], [9, 8]]]]
RESPONSES = [[[[5, 6], [7, 7, 1]], [[4, 10]]], [[[9]], [[6], [8, 5, 5, 2 + 2]]]]


def turns_of(contexts, responses) -> Turns:
    """Tasks side by side, padded, with rows of padding."""
    context = np.full((len(contexts), 3, 7), PAD, np.int32)
    response = np.full((len(contexts), 3, 8), PAD, np.int32)
    for task, pairs in enumerate(zip(contexts, responses, strict=True)):
        for row, (read, said) in enumerate(zip(*pairs, strict=True)):
            context[task, row, : len(read)] = read
            response[task, row, : len(said) + 2] = [START, *said, END]
    return Turns(context, response)


KNOWN, ASKED = (
    turns_of([t[side] for t in CONTEXTS], [t[side] for t in RESPONSES])
    for side in (0, 1)
)


def drawn(sizes: PAMLConfig):
    """(model, parameters far from zero)."""
    model, rng = PAML(sizes), np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: p + rng.normal(0, 0.3, p.shape).astype(np.float32),
        initial_params(model, 0),
    )
    return model, params


@pytest.fixture(scope="module")
def ours():
    return drawn(SIZES)


def as_torch(params) -> dict:
    flat = traverse_util.flatten_dict(params, sep="/")
    return {
        name: torch.tensor(np.asarray(leaf), dtype=torch.float64, requires_grad=True)
        for name, leaf in flat.items()
    }


def norm(w, name, x):
    std = x.std(dim=-1, keepdim=True)  # unbiased
    return (
        w[f"{name}/scale"] * (x - x.mean(-1, keepdim=True)) / (std + 1e-6)
        + w[f"{name}/bias"]
    )


def attention(w, name, x, read, causal=False):
    size = SIZES.depth // SIZES.heads
    parts, logits = [], []
    for head in range(SIZES.heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = (
            y @ w[f"{name}/{of}/kernel"][:, part]
            for of, y in (("query", x), ("key", read), ("value", read))
        )
        scores = q @ k.T / math.sqrt(size)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -1e18)
        logits.append(scores)
        parts.append(scores.softmax(-1) @ v)
    out = torch.cat(parts, -1) @ w[f"{name}/output/kernel"]
    return out, sum(logits) / SIZES.heads


def convolutions(w, name, x, sides):
    for of in ("inner", "outer"):
        kernel = w[f"{name}/{of}/kernel"].reshape(3, x.shape[1], -1).permute(2, 1, 0)
        padded = functional.pad(x.T[None], sides)
        y = functional.conv1d(padded, kernel, w[f"{name}/{of}/bias"])
        x = functional.relu(y[0].T)
    return x


def timing(length):
    half = SIZES.width // 2
    signal = torch.zeros(length, SIZES.width, dtype=torch.float64)
    for place in range(length):
        for i in range(half):
            angle = place / 10000 ** (i / (half - 1))
            signal[place, i] = math.sin(angle)
            signal[place, half + i] = math.cos(angle)
    return signal


def log_probs(w, context, words):
    """[T, V] after each word, of one row."""
    layers = sum(name.endswith("norm_context/bias") for name in w)
    x = w["words"][context] @ w["encoder_input/kernel"] + timing(len(context))
    for layer in range(layers):
        name = f"encoder_{layer}"
        y = norm(w, f"{name}/norm_attention", x)
        x = x + attention(w, f"{name}/attention", y, y)[0]
        y = norm(w, f"{name}/norm_convolutions", x)
        x = x + convolutions(w, f"{name}/convolutions", y, (1, 1))
    memory = norm(w, "encoder_norm", x)
    x = w["words"][words] @ w["decoder_input/kernel"] + timing(len(words))
    for layer in range(layers):
        name = f"decoder_{layer}"
        y = norm(w, f"{name}/norm_attention", x)
        x = x + attention(w, f"{name}/attention", y, y, causal=True)[0]
        y = norm(w, f"{name}/norm_context", x)
        found, copying = attention(w, f"{name}/context", y, memory)
        x = x + found
        y = norm(w, f"{name}/norm_convolutions", x)
        x = x + convolutions(w, f"{name}/convolutions", y, (2, 0))
    x = norm(w, "decoder_norm", x)
    gate = torch.sigmoid(x @ w["gate/kernel"] + w["gate/bias"])
    said = (x @ w["words"].T + w["output_bias"]).softmax(-1)
    places = torch.tensor(context).expand(len(words), -1)
    copied = torch.zeros_like(said).scatter_add(1, places, copying.softmax(-1))
    return torch.log(gate * said + (1 - gate) * copied)


def loss(w, contexts, responses):
    """Mean over the words of a dialogue."""
    parts = []
    for context, response in zip(contexts, responses, strict=True):
        found = log_probs(w, context, [START, *response])
        parts += [-found[i, word] for i, word in enumerate([*response, END])]
    return sum(parts) / len(parts)


def meta_loss(w, second_order: bool):
    total = 0.0
    for contexts, responses in zip(CONTEXTS, RESPONSES, strict=True):
        adapted = w
        for _ in range(CONFIG.inner_steps):
            before = loss(adapted, contexts[0], responses[0])
            grads = torch.autograd.grad(
                before, [*adapted.values()], create_graph=second_order
            )
            adapted = {
                name: value - CONFIG.inner_rate * grad
                for (name, value), grad in zip(adapted.items(), grads, strict=True)
            }
        total = total + loss(adapted, contexts[1], responses[1])
    return total / len(CONTEXTS)


def first_of(turns: Turns) -> Turns:
    return jax.tree.map(lambda a: a[0], turns)


def test_log_probabilities_of_all_words_equal_pytorchs(ours):
    model, params = ours
    turns, w = first_of(KNOWN), as_torch(params)
    said = jax.jit(model.apply)({"params": params}, turns)
    every = np.asarray(pointer.word_log_probs(said, turns.context))
    targets = pointer.target_log_probs(said, turns.context, turns.targets)
    np.testing.assert_allclose(np.exp(every[:2]).sum(axis=-1), 1, rtol=1e-5)
    for row in range(2):
        response = RESPONSES[0][0][row]
        theirs = log_probs(w, CONTEXTS[0][0][row], [START, *response]).detach().numpy()
        np.testing.assert_allclose(every[row, : len(theirs)], theirs, atol=2e-5)
        chosen = theirs[np.arange(len(theirs)), [*response, END]]
        np.testing.assert_allclose(targets[row, : len(theirs)], chosen, atol=2e-5)


def test_a_word_that_is_found_nowhere_has_a_gradient(ours):
    """Where PyTorch's writing gives log 0."""
    model, params = ours
    turns = first_of(KNOWN)

    def of(bias):
        sure = {**params, "output_bias": params["output_bias"].at[8].add(bias)}
        return adapting.loss(model, sure, turns)

    value, grad = jax.value_and_grad(of)(300.0)
    assert np.isfinite(value) and value > 100 and grad > 0.3


@pytest.mark.parametrize("second_order", [False, True])
def test_the_meta_gradient_equals_pytorchs(second_order):
    model, params = drawn(ONE)
    config = dataclasses.replace(CONFIG, second_order=second_order)
    of = jax.jit(jax.value_and_grad(paml.make_loss(config, model), has_aux=True))
    (total, unadapted), grads = of(params, KNOWN, ASKED)
    w = as_torch(params)
    theirs = meta_loss(w, second_order)
    theirs.backward()
    first = [
        loss(w, c[0], r[0]).item() for c, r in zip(CONTEXTS, RESPONSES, strict=True)
    ]
    assert float(total) == pytest.approx(theirs.item(), rel=1e-5)
    assert float(unadapted) == pytest.approx(np.mean(first), rel=1e-5)
    flat = traverse_util.flatten_dict(grads, sep="/")
    assert flat.keys() == w.keys()
    for name, grad in flat.items():
        np.testing.assert_allclose(grad, w[name].grad, atol=3e-5, err_msg=name)
    other = as_torch(params)
    meta_loss(other, not second_order).backward()
    assert (other["words"].grad - w["words"].grad).abs().max() > 0.01
