"""Dialogue systems that understand nothing: rows that a real one must beat.

On PersonaChat one and the same reply to everything has ROUGE-L 17.9, where the
paper's systems have 16.4 to 18.1, and a constant persona 22.2, where its persona
generator has 22.5; so every table shows these beside the models.
"""

import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from ppg_jax.data import tokenization
from ppg_jax.data.dialogue import Dialogue, Instance, instances, profile_text
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.retrieval import most_similar
from ppg_jax.data.sentences import sentences
from ppg_jax.inference.scoring import Score
from ppg_jax.metrics.bleu_rouge import normalize_answer, parlai_bleu, token_f1
from ppg_jax.models.ngram import KneserNey
from ppg_jax.systems.system import Answer, Asking


@dataclasses.dataclass(frozen=True)
class Control:
    """A row that knows texts and no model; `name` is of `respond`, `infer_persona`."""

    label: str
    kind: str
    name: str
    control: ClassVar[bool] = True
    against: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def description(self) -> dict:
        return {"kind": self.kind, "label": self.label, "control": True, "against": []}

    def load(self, asking: Asking) -> "_Texts":
        write = respond if self.kind == "responses" else infer_persona
        return _Texts(lambda asked: write(self.name, asking.train, asked, asking.seed))


@dataclasses.dataclass(frozen=True)
class Gold:
    """The row of gold personas, which others are read beside."""

    label: str = "Gold personas"
    kind: ClassVar[str] = "personas"
    control: ClassVar[bool] = False
    against: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def description(self) -> dict:
        return {"kind": self.kind, "label": self.label, "control": False, "against": []}

    def load(self, asking: Asking) -> "_Texts":
        return _Texts(lambda asked: [profile_text(i.partner_persona) for i in asked])


@dataclasses.dataclass(frozen=True)
class _Texts:
    """Texts without likelihood (`Answers`)."""

    write: Callable[[Sequence[Instance]], list[str]]

    def score(self, asked: Sequence[Instance]) -> None:
        return None

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        return [Answer(text) for text in self.write(asked)]


@dataclasses.dataclass(frozen=True)
class NGram:
    """A row of a Kneser-Ney n-gram of the run's tokens, which knows no context.

    every: whether it learns from all utterances and not from responses alone. Its
    answer is the one text that takes the likeliest token each time.
    """

    label: str
    kind: str
    order: int
    every: bool = False
    control: ClassVar[bool] = True
    against: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def description(self) -> dict:
        return {"kind": self.kind, "label": self.label, "control": True, "against": []}

    def load(self, asking: Asking) -> "_Likely":
        tokenizer = tokenization.load_tokenizer(asking.workdir / TOKENIZER)
        prompts = Prompts(tokenizer, asking.prompts)
        texts = self._texts(prompts, asking.train)
        size = tokenization.size_of(tokenizer)
        model = KneserNey.fit(texts, self.order, size)
        return _Likely(self.kind, prompts, model)

    def _texts(self, prompts: Prompts, train: Sequence[Dialogue]) -> list[list[int]]:
        if self.kind == "personas":  # once a dialogue: repeats would be no evidence
            return [prompts.persona_target(d.partner_persona) for d in train]
        if self.every:
            return [prompts.response_target(u) for d in train for u in d.utterances]
        return [prompts.response_target(i.response) for i in instances(train)]


@dataclasses.dataclass(frozen=True)
class _Likely:
    """An n-gram, fitted (`Answers`)."""

    kind: str
    prompts: Prompts
    model: KneserNey

    def score(self, asked: Sequence[Instance]) -> list[Score]:
        targets = [self._target(instance) for instance in asked]
        nlls = self.model.nlls(targets)
        return [Score(float(n), len(t)) for n, t in zip(nlls, targets, strict=True)]

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        limits = self.prompts.config
        limit = limits.max_response_tokens
        if self.kind == "personas":
            limit = limits.max_persona_tokens
        tokens = self.model.complete(limit, self.prompts.end_id)
        return [Answer(self.prompts.text(tokens))] * len(asked)

    def _target(self, instance: Instance) -> list[int]:
        if self.kind == "personas":
            return self.prompts.persona_target(instance.partner_persona)
        return self.prompts.response_target(instance.response)


GOLD, TOKENIZER = "gold", "tokenizer"
CONTROLS = {
    "responses": {
        "constant_bleu": Control(
            "control: one reply, for BLEU", "responses", "constant_bleu"
        ),
        "constant_f1": Control(
            "control: one reply, for F1", "responses", "constant_f1"
        ),
        "copy_last": Control("control: last utterance again", "responses", "copy_last"),
        "random": Control("control: a random reply", "responses", "random"),
        "retrieval": Control("control: BM25 reply", "responses", "retrieval"),
        "ngram_3": NGram("control: 3-gram of responses", "responses", 3),
        "ngram_4": NGram("control: 4-gram of all utterances", "responses", 4, True),
    },
    "personas": {
        "constant": Control("control: one persona for all", "personas", "constant"),
        "random": Control("control: a random persona", "personas", "random"),
        "retrieval": Control("control: BM25 persona", "personas", "retrieval"),
        "said": Control(
            "control: what the partner said of themselves", "personas", "said"
        ),
        "said_or_usual": Control(
            "control: the same, filled up with the usual", "personas", "said_or_usual"
        ),
        "ngram_3": NGram("control: 3-gram of personas", "personas", 3),
    },
}
RESPONSE_CONTROLS, PERSONA_CONTROLS = (
    tuple(name for name, row in rows.items() if isinstance(row, Control))
    for rows in CONTROLS.values()
)
MOST = 5  # sentences of a profile: none of PersonaChat's has more
_OF_MYSELF = re.compile(r"\b(?:i|my)\b.*", re.IGNORECASE | re.DOTALL)


def respond(
    name: str, train: Sequence[Dialogue], asked: Sequence[Instance], seed: int
) -> list[str]:
    """The control's reply to each instance asked.

    constant_bleu  always the training response with the best ParlAI BLEU
    constant_f1    always the one with the best F1 (and with it a high ROUGE-L)
    copy_last      the last utterance again; "" where nothing was said yet
    random         any training response
    retrieval      what followed the training utterance most like the last one (BM25)
    """
    _check_known(name, RESPONSE_CONTROLS)
    if name == "constant_bleu":
        return [constant_for_bleu(train)] * len(asked)
    if name == "constant_f1":
        return [constant_for_f1(train)] * len(asked)
    if name == "copy_last":
        return [_last_utterance(instance) for instance in asked]
    known = instances(train)
    if name == "random":
        chosen = np.random.default_rng(seed).integers(len(known), size=len(asked))
    else:
        documents = [_last_utterance(instance) for instance in known]
        chosen = most_similar(documents, [_last_utterance(i) for i in asked])
    return [known[i].response for i in chosen]


def infer_persona(
    name: str, train: Sequence[Dialogue], asked: Sequence[Instance], seed: int
) -> list[str]:
    """The control's partner persona for each instance asked, as one text.

    constant   always `constant_persona(train)`
    random     any training dialogue's partner persona
    retrieval  the training profile most like what the partner has said so far (BM25)
    said       what the partner has said of themselves, copied (`said`)
    said_or_usual  the same, filled up with the constant persona's sentences

    Copied sentences were chosen on PersonaChat's validation split: ROUGE-L 24.1 and
    BLEU 2.88, where whole sentences have 23.3, all and not only five of them 22.8, and
    all that was said 19.5. On test 22.9 and 1.93; filled up 26.3 and 2.58.
    """
    _check_known(name, PERSONA_CONTROLS)
    if name == "constant":
        return [constant_persona(train)] * len(asked)
    if name == "random":
        chosen = np.random.default_rng(seed).integers(len(train), size=len(asked))
        return [profile_text(train[i].partner_persona) for i in chosen]
    if name == "said":
        return [said(instance) for instance in asked]
    if name == "said_or_usual":
        usual = sentences(constant_persona(train))
        return [said_or_usual(instance, usual) for instance in asked]
    profiles = list(dict.fromkeys(profile_text(d.partner_persona) for d in train))
    heard = [" ".join(instance.context[::-2]) for instance in asked]
    return [profiles[i] for i in most_similar(profiles, heard)]


def constant_persona(train: Sequence[Dialogue]) -> str:
    """The most frequent partner sentences, as many as a profile usually has."""
    counts = Counter(sentence for d in train for sentence in d.partner_persona)
    usual = round(np.median([len(d.partner_persona) for d in train]))
    return profile_text([sentence for sentence, _ in counts.most_common(usual)])


def constant_for_bleu(train: Sequence[Dialogue], tried: int = 20) -> str:
    """The training response with the highest mean ParlAI BLEU against all of them.

    Only responses with a 4-gram in common count (others score almost nothing), and
    only the `tried` responses whose 4-grams are the most common are compared.
    """
    spelling, counts = {}, Counter()  # by normalised response
    for response, n in Counter(i.response for i in instances(train)).most_common():
        spelling.setdefault(normalize_answer(response), response)
        counts[normalize_answer(response)] += n
    having = defaultdict(set)  # 4-gram -> the responses that have it
    for response in counts:
        for gram in _four_grams(response):
            having[gram].add(response)
    said = {g: sum(counts[r] for r in responses) for g, responses in having.items()}

    def promise(response: str) -> tuple[float, int]:
        grams = _four_grams(response)
        common = sum(said[gram] for gram in grams) / max(1, len(grams))
        return common, counts[response]

    def total_bleu(response: str) -> float:
        alike = sorted(set().union(*(having[g] for g in _four_grams(response))))
        scores = parlai_bleu([response] * len(alike), alike)
        return float(scores @ np.array([counts[r] for r in alike], np.float64))

    promising = sorted(counts, key=promise, reverse=True)[:tried]
    return spelling[max(promising, key=total_bleu)]


def _four_grams(normalised: str) -> set[tuple[str, ...]]:
    words = normalised.split()
    return set(zip(*(words[i:] for i in range(4)), strict=False))


def constant_for_f1(
    train: Sequence[Dialogue], sample: int = 2000, tried: int = 20
) -> str:
    """The training response with the highest mean F1 against the others.

    Of `sample` responses, evenly spaced, the `tried` best by the overlap of their word
    sets are compared.
    """
    responses = [instance.response for instance in instances(train)]
    responses = responses[:: math.ceil(len(responses) / sample)]
    words = [set(normalize_answer(response).split()) for response in responses]
    column = {word: i for i, word in enumerate(sorted(set().union(*words)))}
    has_word = np.zeros((len(words), len(column)), np.float32)
    for row, row_words in zip(has_word, words, strict=True):
        row[[column[word] for word in row_words]] = 1
    sizes = np.maximum(1, has_word.sum(axis=1))
    overlap = 2 * (has_word @ has_word.T) / (sizes[:, None] + sizes)
    best = np.argsort(-overlap.mean(axis=1), kind="stable")[:tried]

    def mean_f1(response: str) -> float:
        return token_f1([response] * len(responses), responses).mean()

    return max([responses[i] for i in best], key=mean_f1)


def _last_utterance(instance: Instance) -> str:
    return instance.context[-1] if instance.context else ""


def _check_known(name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"No control is named {name!r}; there are {', '.join(names)}.")


def said(instance: Instance) -> str:
    """The partner's words of themselves as a profile; without any, their first words.

    "" where the partner has not spoken.
    """
    return profile_text(of_partner(instance) or _spoken(instance)[:MOST])


def said_or_usual(instance: Instance, usual: Sequence[str]) -> str:
    """The same, filled up to `MOST` sentences with `usual` ones (of training)."""
    return profile_text([*of_partner(instance), *usual][:MOST])


def of_partner(instance: Instance) -> list[str]:
    """The first `MOST` first-person sentences, each from its first-person word on."""
    found = map(_OF_MYSELF.search, _spoken(instance))
    return [match.group() for match in found if match][:MOST]


def _spoken(instance: Instance) -> list[str]:
    """The partner's sentences, oldest first; the partner spoke last."""
    turns = instance.context[::-2][::-1]
    spoken = [s for turn in turns for s in sentences(turn)]
    return [sentence for sentence in spoken if re.search(r"\w", sentence)]
