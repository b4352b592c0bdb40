"""How right inferred personas are: their traits against gold ones, said and unsaid.

Two sentences are one trait if the product of their vectors (`embedding`) is at least
`THRESHOLD`, which the validation split settled: docs/traits.md.
"""

from collections.abc import Sequence

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.said import is_said
from ppg_jax.data.sentences import sentences
from ppg_jax.inference.embedding import Encoder
from ppg_jax.metrics import traits

THRESHOLD = 0.6  # `python -m tests.trait_threshold` finds it


def score(
    asked: Sequence[Instance],
    personas: Sequence[str],
    encoder: Encoder,
    threshold: float = THRESHOLD,
) -> list[dict]:
    """The counts of each inferred persona, one text each, against the gold one.

    inferred, said, unsaid: sentences of the inferred persona, and of the gold one those
    that the partner has and has not said so far (`is_said`). right: matched
    one to one; right_said, right_unsaid: of them by the gold sentence. exact: matched
    by their very words. repeated: sentences that the persona has said before. copied:
    sentences of the self persona, word by word. of_self: sentences like one of the self
    persona and matched with none of the partner's.
    """
    parts = [sentences(persona) for persona in personas]
    gold = [s for i in asked for s in (*i.partner_persona, *i.self_persona)]
    encoder([*gold, *(s for part in parts for s in part)])  # all in full batches
    pairs = zip(asked, parts, strict=True)
    return [_counts(i, part, encoder, threshold) for i, part in pairs]


def totals(records: Sequence[dict]) -> dict[str, float]:
    """Precision, recall, F1, and recall of said and of unsaid traits; nan for 0 / 0."""

    def share(right: str, *of: str) -> float:
        whole = sum(record[name] for record in records for name in of)
        return sum(r[right] for r in records) / whole if whole else float("nan")

    return {
        "precision": share("right", "inferred"),
        "recall": share("right", "said", "unsaid"),
        "f1": 2 * share("right", "inferred", "said", "unsaid"),
        "recall_said": share("right_said", "said"),
        "recall_unsaid": share("right_unsaid", "unsaid"),
    }


def _counts(instance: Instance, inferred, encoder: Encoder, threshold: float) -> dict:
    gold, own = instance.partner_persona, instance.self_persona
    heard = instance.context[::-2]  # the partner spoke last
    said = [is_said(trait, heard) for trait in gold]
    found = traits.matched(_similarity(encoder, inferred, gold), threshold)
    right_said = sum(said[g] for _, g in found)
    free = [s for p, s in enumerate(inferred) if p not in {p for p, _ in found}]
    like_own = _similarity(encoder, free, own) >= threshold
    return {
        "inferred": len(inferred),
        "said": sum(said),
        "unsaid": len(gold) - sum(said),
        "right": len(found),
        "right_said": right_said,
        "right_unsaid": len(found) - right_said,
        "exact": len(traits.matched(traits.exact(inferred, gold), 1)),
        "repeated": traits.repeated(inferred),
        "copied": int(traits.exact(inferred, own).any(axis=1).sum()),
        "of_self": int(like_own.any(axis=1).sum()),
    }


def _similarity(encoder: Encoder, ours: Sequence[str], theirs: Sequence[str]):
    """float [P, G]."""
    if not ours or not theirs:
        return traits.exact(ours, theirs)  # empty, of the right shape
    return encoder(ours) @ encoder(theirs).T
