"""One REINFORCE update of both policies (paper, section 3.3).

Axes: B instances.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.inference.generation import Rollout
from ppg_jax.inference.sampling import Decoding, filter_logits
from ppg_jax.inference.scoring import target_logits
from ppg_jax.losses import entropy, kl_divergence, reinforce_loss, token_log_probs
from ppg_jax.models import adapters
from ppg_jax.rl.rollouts import branched, completed, update_batch
from ppg_jax.training.best import Best
from ppg_jax.training.train_state import TrainState, accumulate


@dataclasses.dataclass(frozen=True)
class Objective:
    """What an update takes the gradient of, and in which parts."""

    decoding: Decoding  # what was sampled from; its length is of no account
    batch_size: int
    row_width: int  # tokens that completions are packed into
    reduce: str = "sum"  # of log-probs over tokens, or "mean"
    kl_coefficient: float = 0.0
    entropy_coefficient: float = 0.0
    micro_batches: int = 1
    trained: tuple[str, ...] = ("persona", "response")  # the others are frozen

    @property
    def paid(self) -> Mapping[str, float]:
        """The terms of the loss beside the reward, with their coefficients."""
        terms = {"kl": self.kl_coefficient, "entropy": -self.entropy_coefficient}
        return {name: factor for name, factor in terms.items() if factor}


@flax.struct.dataclass
class ReinforceState:
    """Both policies, the best ones so far, and what early stopping looks at."""

    step: jax.Array  # int32; updates done
    persona: TrainState
    response: TrainState
    best: Best  # of {"persona": .., "response": ..}, what is trained of each
    first: dict  # the metrics of the first validation, before any update
    last: dict  # those of the newest


class Policy(NamedTuple):
    """A model, its supervised weights as far as they are trained, which are the
    reference of the KL, and the others, which policies may share (`models.adapters`).
    """

    model: object
    learned: dict
    base: dict

    def params(self, learned: dict) -> dict:
        """All weights, with those learned so far."""
        return adapters.join(learned, self.base)


class Policies(NamedTuple):
    """Both generators."""

    persona: Policy
    response: Policy


def _terms(names, logits, policy: Policy, batch, tokens) -> dict[str, jax.Array]:
    """KL to the reference and entropy, those named: sums over a part of an update, per
    target token of the whole.
    """
    values = {}
    if "kl" in names:
        # Of the whole distributions: two truncated ones may share no support.
        reference = policy.params(policy.learned)
        before = target_logits(policy.model, reference, batch)
        values["kl"] = kl_divergence(logits, before)
    if "entropy" in names:
        values["entropy"] = entropy(logits)
    mask = batch.target_mask
    return {name: jnp.sum(v, where=mask) / tokens for name, v in values.items()}


def _make_loss(objective: Objective):
    """(learned, part, policy) -> (loss, metrics) of a part of an update.

    part: a batch, each target's advantage, and the target tokens of the whole update.
    """
    decoding, paid = objective.decoding, objective.paid

    def loss(learned, part, policy: Policy):
        batch, advantage, tokens = part
        logits = target_logits(policy.model, policy.params(learned), batch)
        sampled = filter_logits(logits, decoding, batch.targets)
        log_probs = token_log_probs(sampled, batch.targets)
        value = reinforce_loss(
            log_probs, batch.target_mask, advantage, objective.batch_size
        )
        terms = _terms(paid, logits, policy, batch, tokens)
        value += sum(paid[name] * term for name, term in terms.items())
        return value, {"loss": value} | terms

    return loss


@functools.cache
def _make_measure(names: tuple[str, ...]):
    """(model, learned, batch, (reference, base)) -> the `_terms` named; jitted.

    A program of its own, row by row: within that of the gradient they would take its
    memory at every update, and few are watched.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def measure(model, learned, batch, weights):
        tokens, policy = jnp.sum(batch.target_mask), Policy(model, *weights)

        def terms(part, _):
            logits = target_logits(model, policy.params(learned), part)
            return _terms(names, logits, policy, part, tokens)

        return accumulate(terms, batch, jax.random.key(0), len(batch.tokens))

    return measure


@functools.cache
def _make_improve(objective: Objective, tx):
    """(model, parts, state, batch, advantage, (reference, base)) -> (state, metrics);
    jitted, the state is donated. Updates of one objective share what is compiled.
    """
    loss = _make_loss(objective)

    @functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
    def improve(model, parts, state: TrainState, batch, advantage, weights):
        tokens, policy = jnp.sum(batch.target_mask), Policy(model, *weights)

        def gradient(rows, _):
            return jax.grad(loss, has_aux=True)(state.params, (*rows, tokens), policy)

        grads, metrics = accumulate(
            gradient, (batch, advantage), jax.random.key(0), parts
        )
        return state.apply_gradients(grads, tx), metrics

    return improve


def make_update(objective: Objective, policies: Policies, tx):
    """(state, prompts, fetched rollouts, advantages, watch) -> (state, metrics), for
    both policies.

    advantages: float32 [B] for each policy. A jit each: in one, XLA runs them side by
    side and needs twice the memory. watch: bool, whether KL to the supervised models
    and entropy are measured, before the update, where the loss does not hold them
    anyway; they are 0 elsewhere.
    """
    free = tuple(name for name in ("entropy", "kl") if name not in objective.paid)
    measure, improve = _make_measure(free), _make_improve(objective, tx)

    def update(state: ReinforceState, prompted, rollouts, advantages, watch: bool):
        states, metrics = {}, {}
        examples = branched(prompted, rollouts[0]), completed(rollouts[1])
        for i, name in enumerate(Policies._fields):
            states[name] = getattr(state, name)
            if name in objective.trained:
                model, *weights = policies[i]
                batch, shares, parts = _scored(
                    objective, examples[i], rollouts[i], advantages[i]
                )
                told = dict.fromkeys(free, 0.0)
                if watch and free:
                    told = measure(model, states[name].params, batch, weights)
                states[name], learned = improve(
                    model, parts, states[name], batch, shares, weights
                )
                told |= learned
                metrics |= {f"{name}_{k}": v for k, v in told.items()}
        return state.replace(step=state.step + 1, **states), metrics

    return update


def _scored(objective: Objective, examples, rollout: Rollout, advantage: np.ndarray):
    """What the gradient of one policy is taken of; see `update_batch`."""
    if objective.reduce == "mean":
        advantage = advantage / rollout.completion_mask.sum(axis=1)
    return update_batch(
        examples,
        advantage.astype(np.float32),
        objective.row_width,
        objective.micro_batches,
    )
