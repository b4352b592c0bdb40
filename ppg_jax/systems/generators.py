"""Rows of generators: end to end, or told a persona that another generator infers.

Of the paper's tables: E2E three times, GPT-2, ours with and without RL, and Table 7.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from ppg_jax import run_dir
from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.retrieval import TOLD, told_sentences
from ppg_jax.data.said import ORDERS, as_given
from ppg_jax.data.told import grounded_persona, moments, told_persona, unheard
from ppg_jax.inference.found import learned_as
from ppg_jax.inference.generator import Completion, Generator
from ppg_jax.inference.prefixes import joined
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import Score, Scorer, with_cut
from ppg_jax.models import adapters, pretrained
from ppg_jax.systems.system import Answer, Asking, described

DECODED = "contrast", "response_contrast", "grounded"  # fields: how a row is decoded


@dataclasses.dataclass(frozen=True)
class Generators:
    """A row of responses.

    response: a stage of the run, or "STAGE/FOLDER" of one that has several models.
    persona: the same, of a generator whose persona the response generator is told.
    told: instead, "gold", "top3" or "none"; "" is what the response generator was
    trained with. contrast: of the persona (`sampling.contrasted`); response_contrast:
    of the response. grounded: of the persona only what the partner has said is told
    (`data.told.grounded_persona`). against: rows that it is compared with.
    """

    label: str
    response: str
    persona: str = ""
    contrast: float = 0.0
    response_contrast: float = 0.0
    grounded: bool = False
    told: str = ""
    against: tuple[str, ...] = ()
    kind: ClassVar[str] = "responses"
    control: ClassVar[bool] = False

    def __post_init__(self):
        if self.told and self.told not in TOLD:
            raise ValueError(f"told={self.told!r} is none of {TOLD}.")
        if self.told and self.persona:
            raise ValueError(
                f"told={self.told!r} and persona={self.persona!r} are both given; "
                "leave one empty."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return _stages(self.response, self.persona)

    @property
    def description(self) -> dict:
        models = {"response": self.response, "persona": self.persona}
        folders = {k: run_dir.model_folder(m) if m else None for k, m in models.items()}
        decoded = {name: getattr(self, name) for name in DECODED}
        return described(self) | {"models": folders} | decoded

    @property
    def given_gold(self) -> "Generators":
        if not self.persona:
            return self
        plain = {"contrast": 0.0, "grounded": False}
        return dataclasses.replace(self, persona="", told="gold", **plain)

    def load(self, asking: Asking) -> "_Responses":
        """Raises UserError for a stage that has not finished."""
        told = "generated" if self.persona else self.told
        if not told:
            learned = learned_as(asking.workdir, self.response, "response")
            told = learned["partner_persona"]
        return _Responses(
            asking,
            _load(asking, self.response),
            _load(asking, self.persona) if self.persona else None,
            told,
            self.contrast,
            self.grounded,
            self.response_contrast,
        )


@dataclasses.dataclass(frozen=True)
class PersonaGenerator:
    """A row of personas; the other fields are those of `Generators`."""

    label: str
    persona: str
    contrast: float = 0.0
    grounded: bool = False
    against: tuple[str, ...] = ()
    kind: ClassVar[str] = "personas"
    control: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[str, ...]:
        return _stages(self.persona)

    @property
    def description(self) -> dict:
        models = {"persona": run_dir.model_folder(self.persona)}
        decoded = {"contrast": self.contrast, "grounded": self.grounded}
        return described(self) | {"models": models} | decoded

    @property
    def given_gold(self) -> "PersonaGenerator":
        return self

    def load(self, asking: Asking) -> "_Personas":
        """Raises UserError for a stage that has not finished."""
        learned = learned_as(asking.workdir, self.persona, "persona")
        # What is older than this setting learned them as the data has them.
        order = ORDERS[learned.get("persona_order", "as_given")]
        loaded = _load(asking, self.persona)
        return _Personas(asking, loaded, order, self.contrast, self.grounded)


def _stages(*models: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(m.partition("/")[0] for m in models if m))


class _Loaded(NamedTuple):
    model: object
    params: dict
    prompts: Prompts
    name: str  # of these weights: SHA-256 of what was trained, and the base of it


class _Told(NamedTuple):
    """An inferred persona."""

    tokens: list[int]  # with the end token; [] if nothing is known
    ended: bool


def _load(asking: Asking, source: str) -> _Loaded:
    def load() -> _Loaded:
        run_dir.finished_stage(asking.workdir, source.partition("/")[0])
        folder = asking.workdir / run_dir.model_folder(source)
        model, params, tokenizer = pretrained.load(
            folder, dtype=jnp.dtype(asking.dtype), **asking.shared
        )
        prompts = Prompts(tokenizer, asking.prompts)
        name = adapters.sha256(params) + pretrained.base_of(folder)
        return _Loaded(model, params, prompts, name)

    return asking.once(("model", source), load)


def _generator(
    asking: Asking, loaded: _Loaded, limit: int, contrast: float = 0.0
) -> Generator:
    """Rows with models of one form share their compiled programs."""

    def make() -> Generator:
        filters = asking.temperature, 0, asking.top_p
        return Generator(
            loaded.model,
            Decoding(limit, *filters, contrast),
            loaded.prompts.end_id,
            batch_size=asking.batch_size,
            bucket=64,
        )

    kind = loaded.model, limit, contrast, loaded.prompts.end_id
    return asking.once(("generator", *kind), make)


def _scores(asking: Asking, loaded: _Loaded, examples) -> dict[str, Score]:
    # A pass that several instances share is longer, and has the targets of all.
    rows = max(1, asking.batch_size // 4)
    scorer = asking.once(("scorer", loaded.model), lambda: Scorer(loaded.model, rows))
    return with_cut(scorer(loaded.params, joined(examples)), loaded.prompts.cut)


def _infer(
    asking: Asking,
    loaded: _Loaded,
    asked: Sequence[Instance],
    contrast: float,
    grounded: bool,
) -> list[_Told]:
    """Partner personas; models with the same weights are asked once."""
    if not grounded:
        said = _complete(asking, loaded, asked, contrast)
        return [
            _Told(told_persona(loaded.prompts, s.tokens, i, s.ended), s.ended)
            for s, i in zip(said, asked, strict=True)
        ]
    # Of a whole dialogue these are what is asked, and no more.
    along = {i.id: moments(i) for i in asked}
    each = {moment.id: moment for some in along.values() for moment in some}
    told = _infer(asking, loaded, list(each.values()), contrast, grounded=False)
    known = dict(zip(each, told, strict=True))
    kept = []
    for instance in asked:
        before = along[instance.id]
        said = [known[moment.id].tokens for moment in before]
        tokens = grounded_persona(loaded.prompts, said, before)
        kept.append(_Told(tokens, known[instance.id].ended))
    return kept


def _complete(
    asking: Asking, loaded: _Loaded, asked: Sequence[Instance], contrast: float
) -> list[Completion]:
    def complete() -> list[Completion]:
        limit, ids = asking.prompts.max_persona_tokens, _numbers(asked)
        generator = _generator(asking, loaded, limit, contrast)
        prompt = loaded.prompts.persona_prompt
        rows = [prompt(i) for i in asked]
        without = [prompt(unheard(i)) for i in asked] if contrast else ()
        return generator(loaded.params, rows, asking.seed, ids, without=without)

    return asking.once(("personas", loaded.name, contrast, _names(asked)), complete)


def _numbers(asked: Sequence[Instance]) -> np.ndarray:
    """int64 [N], even: what the randomness of each derives from, whoever is beside."""
    return np.array([zlib.crc32(i.id.encode()) >> 2 << 1 for i in asked])


def _names(asked: Sequence[Instance]) -> tuple[str, ...]:
    return tuple(instance.id for instance in asked)


@dataclasses.dataclass(frozen=True)
class _Personas:
    """A persona generator, loaded (`Answers`).

    order: that of the gold sentences which it learned, and which are scored.
    """

    asking: Asking
    loaded: _Loaded
    order: Callable[[Instance], Instance]
    contrast: float
    grounded: bool

    def score(self, asked: Sequence[Instance]) -> list[Score]:
        golds = [self.order(instance) for instance in asked]

        def score() -> dict[str, Score]:
            examples = map(self.loaded.prompts.persona_example, golds)
            return _scores(self.asking, self.loaded, list(examples))

        texts = tuple(gold.partner_persona for gold in golds)
        key = ("persona scores", self.loaded.name, _names(asked), texts)
        scores = self.asking.once(key, score)
        return [scores[instance.id] for instance in asked]

    def in_order(self, asked: Sequence[Instance]) -> "tuple[_Personas, list[Instance]]":
        fixed = dataclasses.replace(self, order=as_given)
        return fixed, [self.order(instance) for instance in asked]

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        decoded = self.contrast, self.grounded
        told = _infer(self.asking, self.loaded, asked, *decoded)
        return [Answer(self.loaded.prompts.text(t), None, ended) for t, ended in told]


@dataclasses.dataclass(frozen=True)
class _Responses:
    """A response generator, loaded, with who tells it of the partner (`Answers`)."""

    asking: Asking
    response: _Loaded
    persona: _Loaded | None
    told: str
    contrast: float
    grounded: bool
    response_contrast: float

    def score(self, asked: Sequence[Instance]) -> list[Score]:
        def score() -> dict[str, Score]:
            partners = self._partners(asked)
            make = self.response.prompts.response_example
            pairs = zip(asked, partners, strict=True)
            examples = [make(i, p or None) for i, p in pairs]
            return _scores(self.asking, self.response, examples)

        scores = self.asking.once(("scores", *self._key(asked)), score)
        return [scores[instance.id] for instance in asked]

    def respond(self, asked: Sequence[Instance]) -> list[Answer]:
        # Early stopping may have kept the supervised weights: no need to ask twice.
        key = ("responses", self.response_contrast, *self._key(asked))
        return self.asking.once(key, lambda: self._respond(asked))

    def _key(self, asked: Sequence[Instance]) -> tuple:
        persona = self.persona and self.persona.name
        given = persona, self.contrast, self.grounded, self.told
        return self.response.name, *given, _names(asked)

    def _respond(self, asked: Sequence[Instance]) -> list[Answer]:
        prompts, partners = self.response.prompts, self._partners(asked)
        both = [(i, p or None) for i, p in zip(asked, partners, strict=True)]
        rows = [prompts.response_prompt(i, p) for i, p in both]
        weight, limit = self.response_contrast, self.asking.prompts.max_response_tokens
        before = both if weight else ()
        without = [prompts.response_prompt(unheard(i), p) for i, p in before]
        generator = _generator(self.asking, self.response, limit, weight)
        # Odd, where personas have even ones: the two must not share their randomness.
        given = self.response.params, rows, self.asking.seed, _numbers(asked) + 1
        completions = generator(*given, without=without)
        return [
            Answer(prompts.text(c.tokens), None if p is None else prompts.text(p))
            for c, p in zip(completions, partners, strict=True)
        ]

    def _partners(self, asked: Sequence[Instance]) -> list:
        """The partner persona that each is told, as tokens; [] where none could be
        inferred, None where none is told."""
        prompts = self.response.prompts
        if self.persona:
            decoded = self.contrast, self.grounded
            told = _infer(self.asking, self.persona, asked, *decoded)
            return [tokens for tokens, _ in told]
        sentences = [told_sentences(self.told, instance) for instance in asked]
        return [prompts.persona_target(s) if s else None for s in sentences]
