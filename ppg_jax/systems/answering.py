"""What one row says to every instance, as records, some dialogues at a time."""

from collections.abc import Iterator, Sequence

from ppg_jax.data.dialogue import Instance, dialogue_of, profile_text
from ppg_jax.inference.critic import Critic
from ppg_jax.systems.system import Answer, Asking, System

# Instances: enough for batches of prompts of like lengths.
PART = 512


def records(
    row: System, asking: Asking, asked: Sequence[Instance], known: int = 0
) -> Iterator[list[dict]]:
    """The records of each part, in the order asked.

    known: how many instances have theirs; the parts that hold them are left out.
    """
    parts = [part for part in _parts(row, asked) if part.stop > known]
    answers = row.load(asking) if parts else None
    for part in parts:
        yield _records(row, answers, asked[part])


def _parts(row: System, asked: Sequence[Instance]) -> Iterator[slice]:
    """Whole dialogues, of `PART` instances together or more.

    All at once of a control: it may draw among all that is asked, and takes seconds.
    """
    start = 0
    for end in range(1, len(asked) + 1):
        last = end == len(asked)
        whole = last or dialogue_of(asked[end - 1].id) != dialogue_of(asked[end].id)
        if last or (whole and end - start >= PART and not row.control):
            yield slice(start, end)
            start = end


def _records(row, answers, asked: Sequence[Instance]) -> list[dict]:
    scores = answers.score(asked) or [None] * len(asked)
    said = answers.respond(asked)
    return [_record(row, *each) for each in zip(asked, said, scores, strict=True)]


def _record(row: System, instance: Instance, said: Answer, score) -> dict:
    likelihood = {"nll": None, "tokens": None}
    if score is not None:
        likelihood = {k: v for k, v in score._asdict().items() if k != "cut" or v}
    if row.kind == "personas":
        own = {"persona": said.text, "ended": said.ended}
    else:
        own = {"response": said.text, "partner_persona": said.told}
    return {"id": instance.id, **own, **likelihood}


def critic_scores(
    row: System,
    asked: Sequence[Instance],
    answered: Sequence[dict],
    critic: Critic | None,
) -> list[float | None]:
    """The critic's P(related) of each response of a row to the persona told; of
    controls, to the gold one.  None where there is none.
    """
    gold = [profile_text(instance.partner_persona) or None for instance in asked]
    told = gold if row.control else [record["partner_persona"] for record in answered]
    scores: list[float | None] = [None] * len(answered)
    judged = [n for n, persona in enumerate(told) if persona is not None]
    if critic is not None and judged:
        texts = [answered[n]["response"] for n in judged]
        found = critic.score([told[n] for n in judged], texts)
        for n, score in zip(judged, found, strict=True):
            scores[n] = float(score)
    return scores
