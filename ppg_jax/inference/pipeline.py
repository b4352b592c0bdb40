"""Context -> inferred partner persona -> response, from a finished run (figure 1).

The persona passes from one generator to the other as token ids. Its text could tokenize
differently, and the response would then answer another persona than the one scored.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ppg_jax.config import (
    from_config_dict,
    require_count,
    require_one_of,
    require_positive,
)
from ppg_jax.data.normalization import normalized_persona
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.data.sentences import sentences
from ppg_jax.data.tokenization import sha256
from ppg_jax.errors import UserError
from ppg_jax.inference.draws import Draws
from ppg_jax.inference.found import find_models, require_folder
from ppg_jax.inference.generator import Generator
from ppg_jax.inference.inferring import Inferring
from ppg_jax.inference.replying import Replying
from ppg_jax.inference.requests import PartnerPersona as PartnerPersona
from ppg_jax.inference.requests import Request as Request
from ppg_jax.inference.requests import all_asked
from ppg_jax.inference.sampling import Decoding
from ppg_jax.launching import keep_compiled_programs
from ppg_jax.models import pretrained
from ppg_jax.models.decoder import Decoder
from ppg_jax.models.quantize import WEIGHTS, for_inference, ready


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Which models of a run are used, and how they choose their words.

    system: a row of the run's config that infers the partner; "" is the last one of
    which all stages have finished. temperature 0 is greedy; top_k 0 and top_p 1 are
    off. contrast: how much more an inferred persona heeds the conversation than what is
    likely of anybody (`sampling.contrasted`); response_contrast: the same of responses,
    which else tell the model's own persona whatever was said; 0 is off. grounded: of
    what was inferred, now and after each earlier utterance, only what the partner has
    said, no guesses (`data.told.grounded_persona`). None, of the three: as the system
    does.
    batch_size: contexts at once; on a CPU two such batches are at work at a time.
    weights: the type of the generators' linear layers; less than float32 needs a CPU
    with products of it (AMX, or `quantize.NEEDED`), or a GPU for bfloat16, which then
    is the type of activations, too.
    as_typed: requests stay as they are; else they are brought into the form of the data
    that the models have learned from, `PromptConfig.text`.
    """

    system: str = ""
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    contrast: float | None = None
    response_contrast: float | None = None
    grounded: bool | None = None
    seed: int = 0
    batch_size: int = 32
    bucket: int = 128
    weights: str = "float32"
    as_typed: bool = False

    def __post_init__(self):
        require_one_of(self, weights=WEIGHTS, grounded=(None, False, True))
        require_positive(self, "batch_size", "bucket")
        contrasts = ("contrast", "response_contrast")
        given = [name for name in contrasts if getattr(self, name) is not None]
        require_count(self, "seed", *given)
        self.decoding(max_new_tokens=1)  # says what is wrong with the others

    def decoding(self, max_new_tokens: int, contrast: float = 0.0) -> Decoding:
        return Decoding(
            max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            contrast=contrast,
        )


@dataclasses.dataclass(frozen=True)
class Reply:
    """A generated response, and the persona that it was told; prints as its text.

    The text has each sentence once, and none that was said in an earlier reply of the
    conversation, if another is there; where all was said before it is generated once
    more without the self persona, where it takes what the partner is for the speaker's
    without the partner persona. The tokens are all that was generated.
    unread: tokens of the newest utterance, at its beginning, that had no room.
    """

    text: str
    partner_persona: PartnerPersona
    tokens: tuple[int, ...]  # without the end token
    ended: bool  # False: cut at `max_response_tokens`
    log_prob: float  # of tokens and end token, as they were decoded (`Completion`)
    unread: int = 0

    def __str__(self) -> str:
        return self.text


class Pipeline:
    """Both generators of a run.

    What is sampled differs from call to call; a pipeline that was loaded anew draws the
    same again, call by call, and so does a call with the same `seed`.

    >>> pipeline = Pipeline.load("runs/quickstart")
    >>> reply = pipeline.reply(["i have two dogs."], ["hi ! what do you do ?"])
    >>> print(reply, reply.partner_persona)
    """

    def __init__(
        self,
        prompts: Prompts,
        persona: tuple,
        response: tuple,
        config: PipelineConfig = PipelineConfig(),
        system: str = "",
    ):
        """persona, response: (model, params) each, of the tokenizer of `prompts`. They
        are kept as decoding reads them best, for inference alone.

        Raises UserError if this machine is no faster with `config.weights`.
        """
        self.prompts, self.config, self.system = prompts, config, system
        self._form = "as_typed" if config.as_typed else prompts.config.text
        self.persona, self.response = (
            for_inference(*generator, config.weights)
            for generator in (persona, response)
        )
        self._contrasts = config.contrast or 0.0, config.response_contrast or 0.0
        form = prompts.config
        self._limits = form.max_persona_tokens, form.max_response_tokens
        self._draws = Draws()
        self._persona, self._response = self._one_or_two()
        self._infer = Inferring(
            prompts, self._persona, self.persona[1], bool(config.grounded)
        )
        self._reply = Replying(prompts, self._response, self.response[1])

    def __repr__(self) -> str:
        models = [type(model).__name__ for model, _ in (self.persona, self.response)]
        return (
            f"Pipeline(system={self.system!r}, persona={models[0]}, response="
            f"{models[1]}, config={self.config})"
        )

    def _one_or_two(self) -> tuple[Generator, Generator]:
        """The generators, which are one where the models have one form: what is
        compiled for the one serves the other.
        """
        models, most = (self.persona[0], self.response[0]), max(self._limits)
        room = models[0].config.n_positions - self.prompts.config.max_length
        one, other = self._contrasts
        if models[0] == models[1] and room >= most and one == other:
            return (self._generator(models[0], most, one),) * 2
        return tuple(map(self._generator, models, self._limits, self._contrasts))

    def _generator(self, model, max_new_tokens: int, contrast: float) -> Generator:
        return Generator(
            model,
            self.config.decoding(max_new_tokens, contrast),
            self.prompts.end_id,
            batch_size=self.config.batch_size,
            bucket=self.config.bucket,
            longest=self.prompts.config.max_length,
        )

    @classmethod
    def load(cls, run_dir=None, system: str = "", **options) -> "Pipeline":
        """The pipeline of a run directory or of a folder that `launch.export` wrote;
        by default of the one that comes with the package. What it compiles is kept on
        disk (`launching.keep_compiled_programs`).

        options: other fields of `PipelineConfig`, as temperature=0.8. Raises UserError
        if a model is not there, and says which command makes it.
        """
        values = {"system": system, **options}
        config = from_config_dict(PipelineConfig, values)
        keep_compiled_programs()
        if run_dir is not None:
            require_folder(run_dir)
        found = find_models(run_dir, config.system)
        for name in ("contrast", "response_contrast", "grounded"):
            if getattr(config, name) is None:
                config = dataclasses.replace(config, **{name: getattr(found, name)})
        shared = {"bases": {}, "prepare": lambda base: ready(base, config.weights)}
        persona, tokenizer = _load(found.persona, found.prompts, shared)
        response, same = _load(found.response, found.prompts, shared)
        one, other = ((t.eos_token_id, sha256(t)) for t in (tokenizer, same))
        if one != other:
            raise UserError(
                f"{found.persona} and {found.response} have different tokenizers, but "
                "one reads what the other writes; train both in one --workdir."
            )
        prompts = Prompts(tokenizer, found.prompts)
        return cls(prompts, persona, response, config, found.system)

    def warm_up(self) -> None:
        """Compiles what single requests need, so that none of them has to wait for it.

        It is one program, or one for each generator, whatever the length of a prompt.
        With `grounded`, a conversation that is taken up in its middle asks for several
        personas at once, and waits for one more.
        """
        generators = (self._persona, self._response), (self.persona, self.response)
        settings = zip(*generators, self._limits, self._contrasts, strict=True)
        prompt = [self.prompts.end_id]
        for generate, (_, params), limit, contrast in settings:
            without = [prompt] if contrast else ()
            generate(params, [prompt], limit=limit, without=without)

    def infer_partner(
        self,
        self_persona: Sequence[str],
        context: Sequence[str],
        seed: int | None = None,
    ) -> PartnerPersona:
        """Who the partner seems to be, from what was said so far."""
        return self.infer_partners([Request(self_persona, context)], seed=seed)[0]

    def reply(
        self,
        self_persona: Sequence[str],
        context: Sequence[str],
        partner_persona: Sequence[str] | str | PartnerPersona | None = None,
        seed: int | None = None,
    ) -> Reply:
        """The next response; the partner persona is inferred unless it is given."""
        request = Request(self_persona, context, partner_persona)
        return self.replies([request], seed=seed)[0]

    def infer_partners(
        self,
        requests: Sequence[Request],
        numbers: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> list[PartnerPersona]:
        """One for each request, in their order; given personas are not looked at.

        What is sampled for a request derives from a seed, that of the config if absent,
        and its number. numbers: if absent, its index where a seed is given, and else
        one that no request of this pipeline had yet.
        """
        requests = all_asked(requests)
        numbers, seed = self._draws.of(requests, numbers, seed, self.config.seed)
        read = [request.instance(self._form) for request in requests]
        return self._infer(read, numbers, seed)

    def replies(
        self,
        requests: Sequence[Request],
        numbers: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> list[Reply]:
        """One for each request, in their order; the rest as in `infer_partners`."""
        requests = all_asked(requests)
        numbers, seed = self._draws.of(requests, numbers, seed, self.config.seed)
        partners = self._partners(requests, numbers, seed)
        told = [partner.tokens or None for partner in partners]
        read = [request.instance(self._form) for request in requests]
        made = zip(self._reply(read, told, numbers, seed), partners, strict=True)
        return [
            Reply(said.text, partner, *said.completion, said.unread)
            for said, partner in made
        ]

    def check(self, request: Request) -> None:
        """Raises UserError if the request's personas leave no room for completions."""
        instance, partner = request.instance(self._form), request.partner_persona
        if partner is None:
            self.prompts.persona_prompt(instance)
            # The longest persona that can be inferred, its end token included.
            tokens = (0,) * self.prompts.config.max_persona_tokens
        else:
            tokens = self._given(partner).tokens
        self.prompts.response_prompt(instance, tokens or None)

    def _partners(self, requests, numbers, seed) -> list[PartnerPersona]:
        asked = [i for i, r in enumerate(requests) if r.partner_persona is None]
        inferred = self.infer_partners(
            [requests[i] for i in asked], [numbers[i] for i in asked], seed
        )
        found = dict(zip(asked, inferred, strict=True))
        return [
            found[i] if i in found else self._given(request.partner_persona)
            for i, request in enumerate(requests)
        ]

    def _given(self, partner: Sequence[str] | str | PartnerPersona) -> PartnerPersona:
        if isinstance(partner, PartnerPersona):
            size = self.response[0].config.vocab_size
            if not all(type(t) is int and 0 <= t < size for t in partner.tokens):
                raise UserError(
                    f"'partner_persona' has tokens that are no ids below {size}; give "
                    "its sentences, or one that this pipeline has inferred."
                )
            return partner
        told = sentences(partner) if isinstance(partner, str) else tuple(partner)
        told = normalized_persona([*filter(str.strip, told)], self._form)
        tokens = self.prompts.persona_target(told) if told else ()
        return PartnerPersona(self.prompts.text(tokens), told, tuple(tokens))


def _load(folder: Path, prompts: PromptConfig, shared: dict) -> tuple:
    """((model, params), tokenizer) of a generator with room for these prompts.

    shared: what `pretrained.load` needs for both generators to share a base.
    """
    model, params, tokenizer = pretrained.load(folder, **shared)
    if not isinstance(model, Decoder):
        raise UserError(
            f"{folder} is no generator, but an encoder or a classifier; expected a "
            "GPT-2 or a Llama that speaks."
        )
    if model.config.n_positions < prompts.max_length:
        raise UserError(
            f"{folder} has {model.config.n_positions} positions, prompts.max_length is "
            f"{prompts.max_length}; they belong to different runs."
        )
    return (model, params), tokenizer
