"""How often a critic is right, beside judges that only compare words.

Axes: N pairs of any number.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ppg_jax.data.dialogue import Dialogue, dialogue_of
from ppg_jax.data.pairs import KINDS, RELATED, Pair, pairs
from ppg_jax.errors import UserError
from ppg_jax.inference.critic import Critic
from ppg_jax.metrics import clusters, overlap, significance

Asked = dict[str, dict[str, list[Pair]]]  # split -> kind of persona -> pairs


def asked_pairs(splits, kinds: Sequence[str], seed: int, instances: int) -> Asked:
    """What a critic is asked in the end, of `kinds` and of other kinds that there are.

    instances: of each split and kind, drawn by the seed; 0 is all. Raises UserError
    where they make no pairs.
    """
    asked: Asked = {}
    for split in ("valid", "test"):
        profiles = {
            "self": any(d.self_persona for d in splits[split]),
            "partner": any(d.partner_persona for d in splits[split]),
        }
        asked[split] = {}
        for kind in KINDS:
            if not (kind in kinds or profiles[kind]):
                continue
            try:
                asked[split][kind] = pairs(splits[split], kind, seed, instances)
            except UserError as error:
                if kind in kinds:
                    raise
                print(f"{kind} personas of {split} are not judged: {error}", flush=True)
    return asked


def accuracies(
    critic: Critic, made: Sequence[Pair], splits, every: Asked, seed: int
) -> dict:
    """{split: {kind of persona: {judge: share, interval and counts}}}.

    The judges are the critic and the controls, which learn from the same pairs. Both
    kinds are asked, whatever it was trained on: REINFORCE asks about the partner's.
    every: of `asked_pairs`.
    """
    texts, labels = _texts(made), [pair.label for pair in made]
    judges = {
        "overlap": overlap.OverlapClassifier.fit(texts, labels),
        "lexical": overlap.LexicalClassifier.fit(texts, labels),
    }
    table: dict[str, dict] = {}
    for split, of_kind in every.items():
        table[split] = {}
        for kind, asked in of_kind.items():
            scores = {"critic": scores_of(critic, asked)}
            scores |= {n: judge.score(_texts(asked)) for n, judge in judges.items()}
            scores["random"] = overlap.random_scores(len(asked), seed)
            whose = units(asked, splits[split], kind)
            table[split][kind] = _judged(scores, [p.label for p in asked], whose)
    return table


def units(
    asked: Sequence[Pair], dialogues: Sequence[Dialogue], kind: str
) -> np.ndarray:
    """What is resampled [N]: the base persona, of `kind`, of each pair's response."""
    own = kind == "self"
    profile_of = {d.id: d.self_persona if own else d.partner_persona for d in dialogues}
    names = [dialogue_of(pair.instance_id) for pair in asked]
    return clusters.unit(names, [profile_of[name] for name in names]).groups


def _judged(scores: Mapping[str, np.ndarray], labels, groups) -> dict[str, dict]:
    """{judge: its share of right answers}; of a control, the critic's p against it."""
    right = {name: overlap.accuracy(s, labels) for name, s in scores.items()}
    table = {name: _share(answers, groups) for name, answers in right.items()}
    for name in table.keys() - {"critic"}:
        table[name]["critic_p"] = significance.paired_permutation(
            [right["critic"]], [right[name]], groups=groups, resamples=4999
        )
    return table


def _share(right: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    share = significance.share(right, groups)
    return {
        "accuracy": share.value,
        "low": share.low,
        "high": share.high,
        "right": int(right.sum()),
        "pairs": len(right),
        "groups": len(np.unique(groups)),
    }


def _texts(made: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair.profile_text, pair.response) for pair in made]


def accuracy_and_nll(critic: Critic, made: Sequence[Pair]) -> tuple[float, float]:
    """The share of pairs that it judges rightly, and nats per pair."""
    score = scores_of(critic, made).astype(np.float64)
    labels = np.array([pair.label for pair in made])
    likelihood = np.where(labels == RELATED, score, 1 - score)
    nll = -np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)).mean()
    return overlap.accuracy(score, labels).mean(), nll


def scores_of(critic: Critic, made: Sequence[Pair]) -> np.ndarray:
    """P(related) of each pair: float32 [N]."""
    return critic.score([p.profile_text for p in made], [p.response for p in made])
