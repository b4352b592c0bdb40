"""Perplexity in the three definitions that papers on dialogue mix up.

The paper does not say which one it reports, and they differ by whole points, so
every table shows all three. Each is `exp` of a ratio of two sums, so
one `[N, 2]` array per definition is all that an interval or a test needs.
Axes: N instances.
"""

import numpy as np


def perplexity(sums):
    """exp(sums[..., 0] / sums[..., 1]): summed columns [..., 2] -> [...]."""
    sums = np.asarray(sums, np.float64)
    return np.exp(sums[..., 0] / sums[..., 1])


def columns(nll, tokens, words) -> dict[str, np.ndarray]:
    """The two columns of each definition, per instance.

    nll [N] in nats, summed over an instance's target tokens and its end token;
    tokens [N] that were summed; words [N], whitespace words of the target's text.
    Returns {definition: float64 [N, 2]}:

    token     exp(sum NLL / sum tokens), the micro average (ParlAI's PPLMetric)
    sequence  exp(mean over instances of NLL / tokens) (DialoGPT's repository)
    word      exp(sum NLL / sum words), comparable across vocabularies
    """
    nll, tokens, words = (np.asarray(x, np.float64) for x in (nll, tokens, words))
    if not (nll.ndim == 1 and nll.shape == tokens.shape == words.shape):
        raise ValueError(
            "nll, tokens and words must be [N] alike; they are "
            f"{nll.shape}, {tokens.shape} and {words.shape}."
        )
    if not (tokens > 0).all():
        raise ValueError("Every instance needs a target token: its end token counts.")
    return {
        "token": np.stack([nll, tokens], axis=-1),
        "sequence": np.stack([nll / tokens, np.ones_like(nll)], axis=-1),
        "word": np.stack([nll, words], axis=-1),
    }
