"""One REINFORCE update of both policies (paper, section 3.3).

Axes: B instances.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.inference.generation import Rollout
from ppg_jax.inference.sampling import Decoding, filter_logits
from ppg_jax.inference.scoring import target_logits
from ppg_jax.losses import entropy, kl_divergence, reinforce_loss, token_log_probs
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
    best: Best  # of {"persona": params, "response": params}
    first: dict  # the metrics of the first validation, before any update
    last: dict  # those of the newest


@dataclasses.dataclass(frozen=True)
class Policies:
    """The two models and their supervised weights, the reference of the KL."""

    persona_model: object
    response_model: object
    persona_params: dict
    response_params: dict


def _terms(names, logits, model, reference, batch, tokens) -> dict[str, jax.Array]:
    """KL to the reference and entropy, those named: sums over a part of an update, per
    target token of the whole.
    """
    values = {}
    if "kl" in names:
        # Of the whole distributions: two truncated ones may share no support.
        values["kl"] = kl_divergence(logits, target_logits(model, reference, batch))
    if "entropy" in names:
        values["entropy"] = entropy(logits)
    mask = batch.target_mask
    return {name: jnp.sum(v, where=mask) / tokens for name, v in values.items()}


def _make_loss(objective: Objective):
    """(params, part, model, reference) -> (loss, metrics) of a part of an update.

    part: a batch, each target's advantage, and the target tokens of the whole update.
    """
    decoding, paid = objective.decoding, objective.paid

    def loss(params, part, model, reference):
        batch, advantage, tokens = part
        logits = target_logits(model, params, batch)
        sampled = filter_logits(logits, decoding, batch.targets)
        log_probs = token_log_probs(sampled, batch.targets)
        value = reinforce_loss(
            log_probs, batch.target_mask, advantage, objective.batch_size
        )
        terms = _terms(paid, logits, model, reference, batch, tokens)
        value += sum(paid[name] * term for name, term in terms.items())
        return value, {"loss": value} | terms

    return loss


def _make_measure(names: Sequence[str]):
    """(model, params, batch, reference) -> the `_terms` named; jitted.

    A program of its own, row by row: within that of the gradient they would take its
    memory at every update, and few are watched.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def measure(model, params, batch, reference):
        tokens = jnp.sum(batch.target_mask)

        def terms(part, _):
            logits = target_logits(model, params, part)
            return _terms(names, logits, model, reference, part, tokens)

        return accumulate(terms, batch, jax.random.key(0), len(batch.tokens))

    return measure


def _make_improve(objective: Objective, tx):
    """(model, parts, state, batch, advantage, reference) -> (state, metrics); jitted,
    the state is donated.
    """
    loss = _make_loss(objective)

    @functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
    def improve(model, parts, state: TrainState, batch, advantage, reference):
        tokens = jnp.sum(batch.target_mask)

        def gradient(rows, _):
            part = (*rows, tokens)
            return jax.grad(loss, has_aux=True)(state.params, part, model, reference)

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
    free = [name for name in ("entropy", "kl") if name not in objective.paid]
    measure, improve = _make_measure(free), _make_improve(objective, tx)
    policy = {
        "persona": (policies.persona_model, policies.persona_params),
        "response": (policies.response_model, policies.response_params),
    }

    def update(state: ReinforceState, prompted, rollouts, advantages, watch: bool):
        states, metrics = {}, {}
        examples = branched(prompted, rollouts[0]), completed(rollouts[1])
        for i, name in enumerate(policy):
            states[name] = getattr(state, name)
            if name in objective.trained:
                model, reference = policy[name]
                batch, shares, parts = _scored(
                    objective, examples[i], rollouts[i], advantages[i]
                )
                told = dict.fromkeys(free, 0.0)
                if watch and free:
                    told = measure(model, states[name].params, batch, reference)
                states[name], learned = improve(
                    model, parts, states[name], batch, shares, reference
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
