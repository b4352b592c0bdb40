"""Critic score -> reward -> advantage (paper, section 3.3).

Axes: B instances.
"""

import numpy as np

REWARDS = ("sign", "soft", "log_odds")
BASELINES = ("none", "batch", "leave_one_out")


def reward(critic_score: np.ndarray, kind: str = "sign") -> np.ndarray:
    """P(related) [B] -> reward [B], float32.

    sign: the paper's, +1 where the critic's label is "related", else -1. soft: 2P - 1.
    log_odds: log P / (1 - P), cut at +-10.
    """
    score = np.asarray(critic_score, np.float32)
    if kind == "sign":
        return np.where(score >= 0.5, 1, -1).astype(np.float32)
    if kind == "soft":
        return 2 * score - 1
    if kind == "log_odds":
        safe = np.clip(score, 1e-7, 1 - 1e-7)
        return np.clip(np.log(safe / (1 - safe)), -10, 10)
    raise ValueError(f"reward={kind!r} is none of {REWARDS}.")


def baseline(reward: np.ndarray, kind: str = "none") -> np.ndarray:
    """What is subtracted from the reward of each instance.  [B] -> [B].

    none: the paper's. batch: the mean reward, biased by 1/B. leave_one_out: the mean of
    the others, which leaves the gradient's expectation as it is (Kool et al., 2019).
    """
    if kind == "none":
        return np.zeros_like(reward)
    if kind == "batch":
        return np.full_like(reward, reward.mean())
    if kind == "leave_one_out":
        return (reward.sum() - reward) / max(len(reward) - 1, 1)
    raise ValueError(f"baseline={kind!r} is none of {BASELINES}.")


def advantage(reward: np.ndarray, baseline_kind: str, scale: float) -> np.ndarray:
    """(reward - baseline) * scale.  [B] -> [B]."""
    return (reward - baseline(reward, baseline_kind)) * np.float32(scale)
