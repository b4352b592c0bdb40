"""Critic score -> reward -> advantage (paper, section 3.3).

Axes: B instances.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import Prompts
from ppg_jax.inference import traits
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.embedding import Encoder
from ppg_jax.inference.generation import Rollout
from ppg_jax.inference.generator import Completion, completions_of
from ppg_jax.metrics.distinct import distinct


class Judged(NamedTuple):
    """What a reward may look at: a batch of B instances, and what was said to them."""

    critic_score: np.ndarray  # P(related) of persona and response; float32 [B]
    personas: Sequence[str]  # generated
    responses: Sequence[str]  # generated
    instances: Sequence[Instance]  # with the gold personas and responses


def sign(judged: Judged) -> np.ndarray:
    """The paper's: +1 where the critic's label is "related", else -1; float32 [B]."""
    return np.where(judged.critic_score > 0.5, 1, -1).astype(np.float32)


def soft(judged: Judged) -> np.ndarray:
    """2 P - 1; float32 [B]."""
    return 2 * np.asarray(judged.critic_score, np.float32) - 1


def log_odds(judged: Judged) -> np.ndarray:
    """log P / (1 - P), cut at +-10; float32 [B]."""
    safe = np.clip(np.asarray(judged.critic_score, np.float32), 1e-7, 1 - 1e-7)
    return np.clip(np.log(safe / (1 - safe)), -10, 10)


def trait_f1(judged: Judged) -> np.ndarray:
    """How right the generated persona is, whatever the critic says: F1 of its sentences
    against the gold ones (`inference.traits`), 0 to 1; float32 [B]. Of whom there is no
    gold persona it is the mean of the others: nothing is known to be right or wrong.

    Raises UserError where MiniLM is not installed.
    """
    counts = traits.score(judged.instances, judged.personas, _encoder())
    sentences = [c["inferred"] + c["said"] + c["unsaid"] for c in counts]
    right = [2 * count["right"] for count in counts]
    paid = np.asarray(right, np.float32) / np.maximum(sentences, 1).astype(np.float32)
    known = np.array([bool(i.partner_persona) for i in judged.instances])
    return np.where(known, paid, paid[known].mean() if known.any() else 0.0)


@functools.cache
def _encoder() -> Encoder:
    return Encoder.load()


# By the name that a config gives; soft and log_odds wait for the question that the
# paper leaves open: whether a label or a score is paid.
REWARDS = {"sign": sign, "soft": soft, "log_odds": log_odds, "trait_f1": trait_f1}
BASELINES = ("none", "leave_one_out")


def baseline(reward: np.ndarray, kind: str = "none") -> np.ndarray:
    """What is subtracted from the reward of each instance.  [B] -> [B].

    none: the paper's. leave_one_out: the mean of the others, which leaves the
    gradient's expectation as it is (Kool et al., 2019).
    """
    if kind == "none":
        return np.zeros_like(reward)
    if kind == "leave_one_out":
        return (reward.sum() - reward) / max(len(reward) - 1, 1)
    raise ValueError(f"baseline={kind!r} is none of {BASELINES}.")


def advantage(reward: np.ndarray, baseline_kind: str, scale: float) -> np.ndarray:
    """(reward - baseline) * scale.  [B] -> [B]."""
    return (reward - baseline(reward, baseline_kind)) * np.float32(scale)


@dataclasses.dataclass(frozen=True)
class Payment:
    """How a batch is paid; the scales are of section 5.7."""

    reward: str = "sign"  # of REWARDS
    baseline: str = "none"  # of BASELINES
    persona_scale: float = 1.0
    response_scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the critic made of one batch."""

    advantages: tuple[np.ndarray, np.ndarray]  # of the persona, of the response; [B]
    metrics: dict[str, float]


def require_learning(config) -> None:
    """Raises ValueError where a policy would be trained on nothing, or chosen by it."""
    persona, response = config.train_persona, config.train_response
    if not (persona or response):
        raise ValueError(
            "train_persona=False and train_response=False leave nothing to train; "
            "set one of them to True."
        )
    if config.reward == "trait_f1" and response:
        raise ValueError(
            "reward='trait_f1' is of the persona, whatever the response says: noise to "
            "its generator; give train_response=False."
        )
    if config.criterion == "persona_nll" and not persona:
        raise ValueError(
            "criterion='persona_nll' is the same for ever with train_persona=False; "
            "give criterion='response_nll'."
        )


def advantages_of(
    payment: Payment,
    critic: Critic,
    prompts: Prompts,
    rollouts: Sequence[Rollout],
    chosen: Sequence[Instance],
) -> Judgement:
    """What the critic makes of (generated persona, generated response) pays, [B] each.

    rollouts: of the persona and of the response policy, fetched; chosen: the instances
    that they answer.
    """
    personas, responses = (completions_of(r, prompts.end_id) for r in rollouts)
    persona_texts = [prompts.text(p.tokens) for p in personas]
    response_texts = [prompts.text(r.tokens) for r in responses]
    score = critic.score(persona_texts, response_texts)
    judged = Judged(score, persona_texts, response_texts, chosen)
    reward = REWARDS[payment.reward](judged)
    metrics = {
        "reward": float(reward.mean()),
        "critic_score": float(score.mean()),
        **_describe("persona", personas, persona_texts),
        **_describe("response", responses, response_texts),
    }
    scales = (payment.persona_scale, payment.response_scale)
    advantages = tuple(advantage(reward, payment.baseline, s) for s in scales)
    return Judgement(advantages, metrics)


def _describe(name: str, completions: Sequence[Completion], texts) -> dict[str, float]:
    return {
        f"{name}_length": float(np.mean([len(c.tokens) for c in completions])),
        f"{name}_ended": float(np.mean([c.ended for c in completions])),
        f"{name}_distinct_1": distinct(texts, 1),
        f"{name}_distinct_2": distinct(texts, 2),
    }
