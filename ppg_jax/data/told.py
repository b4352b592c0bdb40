"""What people and response generators are told of a partner who was inferred.

On token ids, for a persona passes from one generator to the other as those: its text
could tokenize differently.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ppg_jax.data.dialogue import Instance, dialogue_of
from ppg_jax.data.heard import as_meant
from ppg_jax.data.kin import as_said_of
from ppg_jax.data.moods import mood_of
from ppg_jax.data.normalization import normalized_sentence
from ppg_jax.data.numbers import in_digits, tells_age_alone, without_unsaid
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.said import (
    is_grounded,
    is_ones_own,
    is_told_as_over,
    without_guessed_end,
    without_guessed_name,
    without_guessed_rest,
)
from ppg_jax.data.sentences import once, says_again, says_more, sentences
from ppg_jax.data.tense import as_over
from ppg_jax.files import read_jsonl, write_jsonl

# Of what a sentence is about, heard before it is remembered: what a later inference,
# which has heard more, no longer says has to be surer than what it says.
REMEMBERED = 2 / 3
AGED = 0.3  # of the words of "i am 24 years old": the number
MOMENTS = 64  # more than people talk; each is a prompt


def unheard(instance: Instance) -> Instance:
    """Before anything was said: what a generator's contrast is with."""
    return dataclasses.replace(instance, context=())


def told_persona(
    prompts: Prompts, tokens: Sequence[int], instance: Instance, ended: bool = True
) -> list[int]:
    """`Prompts.generated_persona`, each sentence once.

    Without a last sentence that was cut (not ended), if a whole one is there. Without
    what tells of the speaker of the instance for which it was inferred (`is_ones_own`),
    if anything else is there. What REINFORCE samples goes on as it is, on the device,
    repetitions too: a policy is paid for all that it said.
    """
    stay = functools.partial(_stay, ended=ended, instance=instance)
    [*cut, _] = prompts.generated_persona(tokens)
    decode = functools.partial(
        prompts.tokenizer.decode,
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    kept = _tokens_that(stay, cut, decode)
    if kept is None:
        said = sentences(decode(cut))
        [*kept, _] = prompts.persona_target([said[n] for n in stay(said)])
    return prompts.generated_persona(kept)


def moments(instance: Instance) -> list[Instance]:
    """The instance as it was after each of the partner's utterances, the oldest first,
    itself last; alone where nobody spoke yet. Of a long talk, after the last `MOMENTS`.
    """
    dialogue = dialogue_of(instance.id)
    length = len(instance.context)
    earlier = []
    for end in range(2 - length % 2, length, 2)[1 - MOMENTS :]:
        turn = instance.turn - (length - end) // 2
        changed = {"id": f"{dialogue}:{turn}", "turn": turn}
        context = instance.context[:end]
        earlier.append(dataclasses.replace(instance, context=context, **changed))
    return [*earlier, instance]


def grounded_persona(
    prompts: Prompts, told: Sequence[Sequence[int]], along: Sequence[Instance]
) -> list[int]:
    """The tokens of what the partner has said, of personas inferred along the way.

    told: `told_persona` of each of the `moments`, in their order. What the last one
    says stays if it `is_grounded` in what the partner has said (as it was meant,
    `as_meant`); what earlier ones said, the newest first, if two thirds of it were
    by then; neither with a number, an end or a name that the partner has not said
    (`without_unsaid`, `without_guessed_end`, `_rest` and `_name`), each in the form
    of what people type (`normalized_sentence`), of whom it was said of (`as_said_of`),
    and what is over as that (`as_over`). Of two that say the same (`says_again`) one
    stays, the first unless the other `says_more`; what is too long for a generated
    persona goes, the last first. [] where nothing stays: nothing is known of the
    partner.
    """
    *_, now = along
    heard = as_meant(now.context[::-2][::-1])
    kept: list[str] = []
    for tokens, then in zip(told[::-1], along[::-1], strict=True):
        by, share = len(then.context[::-2]), 0.5 if then is now else REMEMBERED
        for sentence in sentences(prompts.text(tokens)):
            sentence = normalized_sentence(sentence, prompts.config.text)
            sentence = without_unsaid(sentence, heard)
            sentence = without_guessed_end(sentence, heard)
            sentence = without_guessed_name(sentence, heard)
            sentence = _as_heard(sentence, heard, by, share)
            sentence = without_guessed_rest(sentence, heard)
            if sentence and not is_ones_own(sentence, now, REMEMBERED):
                _keep(kept, sentence)
    most = prompts.config.max_persona_tokens
    while kept and len(prompts.persona_target(kept)) > most:
        kept.pop()
    if not kept:
        return []
    whole = tuple(kept) == sentences(prompts.text(told[-1]))
    return list(told[-1]) if whole else prompts.persona_target(kept)


def _as_heard(sentence: str, heard: Sequence[str], by: int, share: float) -> str:
    """The sentence, told of whom it was said of, and as over if that was said, if it
    was by then; else ""."""
    if tells_age_alone(sentence):  # as it was said, if in other words
        aged = [" ".join(in_digits(text.lower().split())) for text in heard]
        return as_said_of(sentence, aged, AGED, by) or sentence
    forms = [sentence]
    if not mood_of(sentence) and is_told_as_over(sentence, heard[:by]):
        forms += filter(None, [as_over(sentence)])
    forms = (form for form in forms if is_grounded(form, heard[:by], share))
    told = (as_said_of(form, heard, share, by) for form in forms)
    return next(filter(None, told), "")


def _keep(kept: list[str], sentence: str) -> None:
    """Adds the sentence, or puts it in the place of the one that it says again."""
    again = [n for n, other in enumerate(kept) if says_again(sentence, other)]
    if not again:
        kept.append(sentence)
    elif len(again) == 1 and says_more(sentence, kept[again[0]]):
        kept[again[0]] = sentence


def write_told(path: Path, told: Mapping[str, Sequence[int]]) -> None:
    """Keeps what `told_persona` gave, by instance."""
    write_jsonl(path, ({"id": name, "tokens": t} for name, t in told.items()))


def read_told(path: Path) -> dict[str, list[int]]:
    """What `write_told` kept; {} without a file."""
    records = read_jsonl(path) if path.exists() else ()
    return {record["id"]: record["tokens"] for _, record in records}


def _stay(said: Sequence[str], ended: bool, instance: Instance) -> list[int]:
    """The indices of the sentences that are told."""
    kept = once(said, ended)
    return [n for n in kept if not is_ones_own(said[n], instance)] or kept[:1]


def _tokens_that(
    stay: Callable[[Sequence[str]], list[int]],
    tokens: Sequence[int],
    decode: Callable[[Sequence[int]], str],
) -> list[int] | None:
    """The tokens of the sentences that stay, or None if tokens span borders.

    stay: sentences -> indices; decode: tokens -> text. A token belongs to the sentence
    in which its text begins, spaces not counted: the one before a word is a part of the
    word's token.
    """
    text = decode(tokens)
    said = sentences(text)
    kept = stay(said)
    if len(kept) == len(said):
        return list(tokens)
    ends, start = [], 0
    for sentence in said:
        start = text.index(sentence, start) + len(sentence)
        ends.append(start)
    numbers = []
    for n in range(len(tokens)):
        ahead = text[len(decode(tokens[:n])) :]
        begin = len(text) - len(ahead.lstrip())
        numbers.append(sum(end <= begin for end in ends[:-1]))
    chosen = [t for t, n in zip(tokens, numbers, strict=True) if n in kept]
    exact = sentences(decode(chosen)) == tuple(said[n] for n in kept)
    return chosen if exact else None
