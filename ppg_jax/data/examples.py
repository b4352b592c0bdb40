"""Dialogues -> what a generator learns of them, one causal pass each."""

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from ppg_jax.data.dialogue import Dialogue, Instance, instances
from ppg_jax.data.normalization import normalized
from ppg_jax.data.passes import Example
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.retrieval import told_sentences
from ppg_jax.data.said import ORDERS
from ppg_jax.errors import UserError

TASKS = ("persona", "response", "dialogue")
BATCHINGS = ("dialogue", "instance")
READ = 1000  # utterances that tell how data is written


def examples(
    prompts: Prompts,
    dialogues: Sequence[Dialogue],
    task: str,
    batching: str,
    partner_persona: str = "none",
    persona_order: str = "as_given",
    inferred: Mapping[str, Sequence[int]] | None = None,
) -> list[Example]:
    """One example per dialogue or instance, after `batching`.

    task: of `TASKS`; partner_persona: what a response generator is told, of `TOLD`;
    persona_order: of what a persona generator writes, of `said.ORDERS`. inferred: by
    instance the tokens of a persona that is told in place of that; of batching by
    instance. Responses that had to be cut are told.
    """
    known = len(prompts.cut)
    made = _examples(
        prompts,
        dialogues,
        task,
        batching,
        partner_persona,
        ORDERS[persona_order],
        inferred or {},
    )
    tell_cut(prompts, known)
    return made


def require_room(
    prompts: Prompts, dialogues: Iterable[Dialogue], task: str, partner_persona: str
) -> None:
    """Raises UserError that names a dialogue whose personas leave no room.

    Before anything is learned; of a split that is asked at last, too. Of a whole
    dialogue as a task nothing has to fit.
    """
    # What BM25 chooses differs from turn to turn.
    most = None if partner_persona == "top3" else 1
    for dialogue in dialogues if task != "dialogue" else ():
        for instance in itertools.islice(dialogue.instances(), most):
            if task == "persona":
                target = prompts.persona_target(instance.partner_persona)
                prompts.persona_prompt(instance, len(target))
                continue
            partner = partner_tokens(prompts, partner_persona, instance)
            prompts.response_prompt(instance, partner)
            if partner_persona != "none":
                prompts.response_parts(instance)  # told what was inferred


def tell_form(form: str, dialogues: Iterable[Dialogue]) -> None:
    """Tells where data is written otherwise than what people type will be read as.

    form: of `normalization.FORMS`. Asked are the first `READ` utterances.
    """
    said = (u for dialogue in dialogues for u in dialogue.utterances)
    read = list(itertools.islice(said, READ))
    others = [text for text in read if normalized(text, form) != text]
    if len(others) > 0.1 * len(read):
        shown = f"{others[0]!r} is brought into {normalized(others[0], form)!r}"
        print(
            f"{len(others) / len(read):.0%} of the utterances of training are not "
            f"written as prompts.text={form} has it: what people type is read so "
            f"({shown:.200}), and the models learn from the data as it is. Give data "
            "of that form, or --config.prompts.text=as_typed.",
            file=sys.stderr,
        )


def tell_cut(prompts: Prompts, known: int) -> None:
    """Tells of responses that were cut, but for the first `known`."""
    if cut := list(prompts.cut.items())[known:]:
        name, tokens = cut[0]
        print(
            f"{len(cut)} responses are cut, which prompts.max_length="
            f"{prompts.config.max_length} has no room for: {name} has {tokens} tokens.",
            file=sys.stderr,
        )


def checked(
    made: list[Example], split: str, source: str, task: str = "response"
) -> list[Example]:
    """The examples of a split; UserError where there is none for the task."""
    if made:
        return made
    lacking = f"the {split} split of {source} has no"
    if task == "persona":
        needed = "give dialogues of two turns or more whose partners have personas"
        raise UserError(f"{lacking} partner persona to learn; {needed}.")
    raise UserError(
        f"{lacking} response to learn; give dialogues of two turns or more, or a "
        "prompts.max_length that has room for one."
    )


def _examples(
    prompts: Prompts,
    dialogues: Sequence[Dialogue],
    task: str,
    batching: str,
    partner_persona: str,
    order: Callable[[Instance], Instance],
    inferred: Mapping[str, Sequence[int]],
) -> list[Example]:
    prompts.prime(dialogues)
    if task == "persona":  # an empty profile is nothing to learn
        dialogues = [d for d in dialogues if d.partner_persona]
    if task == "persona" and batching == "dialogue":
        return [e for d in dialogues for e in prompts.persona_dialogue(d, order)]
    if task == "persona":
        return [prompts.persona_example(order(i)) for i in instances(dialogues)]
    whole = task == "dialogue" or batching == "dialogue"
    sources = dialogues if whole else instances(dialogues)
    partners = [
        inferred.get(s.id) or partner_tokens(prompts, partner_persona, s)
        for s in sources
    ]
    pairs = zip(sources, partners, strict=True)
    if task == "dialogue":
        made = [prompts.dialogue_example(d, p) for d, p in pairs]
        return [example for example in made if example.target_of.any()]
    if whole:
        return [e for d, p in pairs for e in prompts.response_dialogue(d, p)]
    return [prompts.response_example(i, p) for i, p in pairs]


def partner_tokens(
    prompts: Prompts, told: str, source: Instance | Dialogue
) -> list[int] | None:
    """The gold partner persona as a generator is told it; None for none.

    told: of `TOLD`. source: a Dialogue where it is the same for all turns.
    """
    sentences = told_sentences(told, source)
    return prompts.persona_target(sentences) if sentences else None
