"""PerCVAE and its loss, and an independent PyTorch writing of Song et al.'s equations.

It goes word by word and row by row, without padding, where ours computes whole batches.
"""

import functools
import itertools

import jax
import numpy as np
import pytest
from flax import traverse_util

torch = pytest.importorskip("torch", reason='needs pip install "ppg_jax[parity]"')

from torch.distributions import Categorical, Normal, kl_divergence  # noqa: E402

from ppg_jax.data.persona_lines import LINE, LINES, UTTERANCE, Lines  # noqa: E402
from ppg_jax.models.percvae import PerCVAE, PerCVAEConfig, initial_params  # noqa: E402
from ppg_jax.stages import percvae  # noqa: E402

SIZES = PerCVAEConfig(
    vocab_size=13,
    embedding=5,
    sentence=4,
    context=6,
    memory=7,
    hops=2,
    latent=3,
    prior=8,
    bag=9,
    decoder=10,
)
SAID = [[2, 5, 6, 3], [2, 3]]
PERSONAS = [[[3], [5, 7, 3], [8, 3]], [[3], [9, 10, 11, 12, 3]]]
RESPONSES = [[2, 7, 7, 4, 3], [2, 12, 3]]
LINE_OF = [1, 4]
KL_WEIGHT = 0.3


def padded(rows, *shape) -> np.ndarray:
    array = np.zeros((len(rows), *shape), np.int32)
    for place, row in zip(array, rows, strict=True):
        if len(shape) > 1:
            row = padded(row, *shape[1:])
        place[: len(row)] = row
    return array


LINES_OF = Lines(
    padded(SAID, UTTERANCE), padded(PERSONAS, LINES, LINE), padded(RESPONSES, 8)
)


@pytest.fixture(scope="module")
def ours():
    """(model, parameters far from zero, noise)."""
    model, rng = PerCVAE(SIZES), np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: p + rng.normal(0, 0.3, p.shape).astype(np.float32),
        initial_params(model, 0),
    )
    noise = rng.standard_normal((2, SIZES.latent), np.float32)
    return model, params, noise


class Theirs:
    """One row at a time."""

    def __init__(self, params):
        flat = traverse_util.flatten_dict(params, sep="/")
        self.p = {
            k: torch.tensor(np.asarray(v), requires_grad=True) for k, v in flat.items()
        }

    def dense(self, name, x):
        return x @ self.p[f"{name}/kernel"] + self.p[f"{name}/bias"]

    def gru(self, name, x, h):
        kernel, bias = self.p[f"{name}/kernel"], self.p[f"{name}/bias"]
        gates, candidate = self.p[f"{name}/gates"], self.p[f"{name}/candidate"]
        n = len(h)
        whole = torch.cat([kernel[:, : 2 * n], gates])
        both = torch.sigmoid(torch.cat([x, h]) @ whole + bias[: 2 * n])
        reset, update = both[:n], both[n:]
        whole = torch.cat([kernel[:, 2 * n :], candidate])
        new = torch.tanh(torch.cat([x, reset * h]) @ whole + bias[2 * n :])
        return update * h + (1 - update) * new

    def sentence(self, words):
        ends = []
        for name, order in ("forward", words), ("backward", words[::-1]):
            h = torch.zeros(SIZES.sentence)
            for word in order:
                h = self.gru(name, self.p["words"][word], h)
            ends.append(h)
        return torch.cat(ends)

    def memory(self, said, persona):
        slots = [w for line in persona for w in line]
        empty = LINES * LINE - len(slots)

        def table(hop):
            found = self.p[f"memory_{hop}"][slots]
            return torch.cat([found, torch.zeros(empty, SIZES.memory)])

        answer = self.p["memory_0"][said].sum(0)
        for hop in range(SIZES.hops):
            heed = torch.softmax(table(hop) @ answer, 0)
            answer = answer + heed @ table(hop + 1)
        return answer

    def loss(self, said, persona, response, line, noise, kl_weight):
        """The loss of one row, and of its reconstruction with z of the prior."""
        memory = self.memory(said, persona)
        first = self.gru("context_0", self.sentence(said), torch.zeros(SIZES.context))
        second = self.gru("context_1", first, torch.zeros(SIZES.context))
        condition = torch.cat([memory, first, second])
        of = torch.cat([condition, self.sentence(response), memory])
        q = self.normal(self.dense("recogniser", of))
        hidden = torch.tanh(self.dense("prior_hidden", condition))
        p = self.normal(self.dense("prior_output", hidden))
        z = q.mean + q.stddev * noise
        words, kinds = self.said(condition, z, response)
        lines = torch.tanh(self.dense("selection", torch.cat([memory, z])))
        given = torch.cat([condition, z])
        bag = Categorical(
            logits=self.dense("bag_output", torch.tanh(self.dense("bag_hidden", given)))
        )
        kl = kl_divergence(q, p).sum()
        bags = -sum(bag.log_prob(torch.tensor(w)) for w in response[1:])
        line = -Categorical(logits=lines).log_prob(torch.tensor(line))
        total = words + kl_weight * kl + bags + 0.1 * line + 0.05 * kinds
        from_prior, _ = self.said(condition, p.mean + p.stddev * noise, response)
        return total, from_prior

    def normal(self, both):
        mean, log_variance = both.chunk(2)
        return Normal(mean, torch.exp(log_variance / 2))

    def said(self, condition, z, response):
        said = placed = self.dense("start", torch.cat([condition, z]))
        words = kinds = torch.zeros(())
        for word, following in itertools.pairwise(response):
            x = self.p["words"][word]
            said, placed = self.gru("decoder", x, said), self.gru("position", x, placed)
            likely = Categorical(logits=self.dense("output", said))
            words = words - likely.log_prob(torch.tensor(following))
            kind = Categorical(logits=self.dense("position_output", placed))
            kinds = kinds - kind.log_prob(torch.tensor(0))
        return words, kinds


def test_the_loss_and_its_gradients_are_those_of_the_equations(ours):
    model, params, noise = ours
    theirs = Theirs(params)
    rows = zip(SAID, PERSONAS, RESPONSES, LINE_OF, torch.tensor(noise), strict=True)
    both = [theirs.loss(*row, KL_WEIGHT) for row in rows]
    expected = sum(total for total, _ in both) / len(both)
    expected.backward()

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        call = functools.partial(model.apply, {"params": params}, LINES_OF, noise)
        found = percvae.terms(call(), LINES_OF, np.array(LINE_OF))
        parts = {name: term.mean() for name, term in found.items()}
        from_prior = percvae.reconstruction(call(from_prior=True), LINES_OF)
        return percvae.loss_of(parts, KL_WEIGHT), from_prior

    (found, from_prior), grads = loss(params)
    np.testing.assert_allclose(found, expected.item(), rtol=1e-5)
    likely = [from_prior.item() for _, from_prior in both]
    np.testing.assert_allclose(from_prior, likely, rtol=1e-5)
    for name, grad in traverse_util.flatten_dict(grads, sep="/").items():
        wanted = theirs.p[name].grad
        wanted = np.zeros(grad.shape) if wanted is None else wanted.numpy()
        np.testing.assert_allclose(grad, wanted, rtol=1e-3, atol=1e-5, err_msg=name)
