"""Every system on the test split, beside controls that understand nothing.

Predictions go to `evaluate/` in the run directory, a file per system as soon as it is
done, so an interrupted evaluation goes on with the next system. `report` turns the
files into tables and figures.

A model of one's own becomes one more row by writing its answers, in the same form, to
`evaluate/responses/NAME.jsonl`.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_one_of, require_positive
from ppg_jax.data import corpus
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, Instance, instances
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.errors import UserError
from ppg_jax.files import write_json, write_jsonl
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.generator import Completion, Generator
from ppg_jax.inference.sampling import Decoding
from ppg_jax.inference.scoring import Scorer
from ppg_jax.models import pretrained
from ppg_jax.models.gpt2 import GPT2
from ppg_jax.run_dir import agree, claim
from ppg_jax.systems import controls
from ppg_jax.training.train_state import params_sha256


@dataclasses.dataclass(frozen=True)
class Config:
    """What is evaluated, and how completions are drawn (greedy: temperature 0).

    max_dialogues: only so many test dialogues, chosen by seed; 0 is all. paper: whether
    the report shows the paper's numbers, which are of PersonaChat. batch_size: as
    `inference.generator.Generator` has it. dtype: what the generators compute in.
    """

    name: str = "evaluate"
    title: str = "Partner persona generation"
    data: DataConfig = DataConfig()
    prompts: PromptConfig = PromptConfig()
    paper: bool = False
    split: str = "test"
    max_dialogues: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    batch_size: int = 64
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self):
        require_positive(self, "batch_size")
        require_one_of(self, dtype=DTYPES)
        Decoding(1, temperature=self.temperature, top_p=self.top_p)  # checks them
        if self.max_dialogues == 1:
            raise ValueError("max_dialogues=1: intervals need two dialogues or more.")


# name: (persona stage and folder or None, response stage and folder, partner persona)
SYSTEMS = {
    "without": (None, ("response_without", "model"), "none"),
    "training_only": (None, ("response", "model"), "none"),
    "full": (None, ("response", "model"), "gold"),
    "ours_supervised": (("persona", "model"), ("response", "model"), "generated"),
    "ours": (
        ("reinforce", "model_persona"),
        ("reinforce", "model_response"),
        "generated",
    ),
}
PERSONA_SYSTEMS = {
    "supervised": ("persona", "model"),
    "reinforced": ("reinforce", "model_persona"),
}


def run(config: Config, workdir: Path) -> dict:
    """Answers and scores of all systems whose stages are finished."""
    workdir = Path(workdir)
    folder = workdir / config.name
    splits = corpus.load_splits(config.data)
    stages = finished_stages(workdir)
    weights = {
        f"{name} model": result["params_sha256"] for name, result in stages.items()
    }
    data = {"test data": corpus.fingerprint(splits[config.split])}
    train = run_dir.sums_of(splits, "train")
    for name in stages:
        agree(workdir / name, config, train, "prompts")
    # A system whose stage finished since is one more row; but every response has a
    # score by the critic, or none has.
    later = weights.keys() - {"critic model"}
    claim(folder, config, weights | data | train, later)
    began = time.monotonic()
    asked = chosen(config, splits[config.split])
    write_references(folder, asked, splits["train"])
    bench = Bench(config, workdir, asked)
    for kind, name, make in bench.rows(splits["train"], stages):
        bench.keep(kind, name, make)
    result = {
        "instances": len(asked),
        "compiled_shapes": bench.compile_count,
        "seconds_of_last_process": time.monotonic() - began,
    }
    write_json(folder / run_dir.RESULT, result)
    return run_dir.report_done(config.name, folder)


def finished_stages(workdir: Path) -> dict[str, dict]:
    """The result.json of each stage that has a model."""
    names = {s for _, (s, _), _ in SYSTEMS.values()} | {"persona", "critic"}
    return {
        name: run_dir.result_of(workdir / name)
        for name in sorted(names)
        if run_dir.finished(workdir, name)
    }


def chosen(config: Config, dialogues: Sequence[Dialogue]) -> tuple[Instance, ...]:
    """The instances that are asked: of all dialogues, or of a seeded choice."""
    if config.max_dialogues and config.max_dialogues < len(dialogues):
        order = np.random.default_rng(config.seed).permutation(len(dialogues))
        picked = sorted(order[: config.max_dialogues])
        dialogues = [dialogues[i] for i in picked]
    return instances(dialogues)


def write_references(folder: Path, asked, train: Sequence[Dialogue]) -> None:
    """What was asked, with the gold answers, and the personas of training."""
    records = []
    for instance in asked:
        record = dataclasses.asdict(instance)
        record["dialogue"] = instance.id.rpartition(":")[0]
        records.append(record)
    write_jsonl(folder / "instances.jsonl", records)
    known = {s for d in train for s in d.self_persona + d.partner_persona}
    write_json(folder / "training_sentences.json", sorted(known))


def persona_controls(asked: Sequence[Instance], texts: Sequence[str]) -> list[dict]:
    """Records of personas that no model wrote."""
    return [
        {"id": i.id, "persona": t, "nll": None, "tokens": None, "ended": None}
        for i, t in zip(asked, texts, strict=True)
    ]


class Bench:
    """The instances, and the models that answer them; each is loaded once.

    Systems with models of one form share their compiled programs.
    """

    def __init__(self, config: Config, workdir: Path, asked: Sequence[Instance]):
        self._config, self._workdir, self._asked = config, workdir, asked
        self._models: dict[tuple[str, str], tuple] = {}
        self._inferred: dict[tuple[str, str], list[Completion]] = {}
        self._answered: dict[tuple, list[dict]] = {}
        self._first_with: dict[str, tuple[str, str]] = {}  # by SHA-256 of the weights
        self._generators: dict[tuple, Generator] = {}
        self._scorers: dict[GPT2, Scorer] = {}
        finished = run_dir.finished(workdir, "critic")
        folder = workdir / "critic" / "model"
        self._critic = Critic.load(folder) if finished else None

    @property
    def compile_count(self) -> int:
        """How many shapes of generation were compiled."""
        return sum(g.compile_count for g in self._generators.values())

    def rows(
        self, train: Sequence[Dialogue], stages: Collection[str]
    ) -> Iterator[tuple[str, str, Callable[[], list[dict]]]]:
        """(kind, name, what makes its records) of every system that can be asked.

        train: what the controls know. stages: those that are finished.
        """
        asked, seed = self._asked, self._config.seed
        for name in controls.PERSONA_CONTROLS:
            write = partial(controls.infer_persona, name, train, asked, seed)
            yield "personas", name, lambda write=write: persona_controls(asked, write())
        gold = [self.gold_text(instance) for instance in asked]
        yield "personas", "gold", partial(persona_controls, asked, gold)
        for name in controls.RESPONSE_CONTROLS:
            write = partial(controls.respond, name, train, asked, seed)
            yield "responses", name, lambda write=write: self.judged(write(), gold)
        for name, source in PERSONA_SYSTEMS.items():
            if source[0] in stages:
                yield "personas", name, partial(self.personas, source)
        for name, (persona, response, told) in SYSTEMS.items():
            if response[0] in stages and (persona is None or persona[0] in stages):
                make = partial(self.responses, persona, response, told)
                yield "responses", name, make

    def keep(self, kind: str, name: str, make) -> None:
        """Writes the records of one system, unless an earlier run did."""
        path = self._workdir / self._config.name / kind / f"{name}.jsonl"
        if not path.exists():
            began = time.monotonic()
            write_jsonl(path, make())
            seconds = time.monotonic() - began
            told = f"{self._config.name}: {kind} of {name}: {seconds:.0f} s"
            print(told, file=sys.stderr, flush=True)

    def gold_text(self, instance: Instance) -> str:
        return " ".join(instance.partner_persona)

    def personas(self, source) -> list[dict]:
        """What a persona generator writes, and how likely it finds the gold persona."""
        model, params, prompts = self._load(source)
        examples = [prompts.persona_example(i) for i in self._asked]
        scores = self._scorer(model)(params, examples)
        inferred = self._infer(source)
        return [
            {
                "id": i.id,
                "persona": prompts.text(p.tokens),
                **scores[i.id]._asdict(),
                "ended": p.ended,
            }
            for i, p in zip(self._asked, inferred, strict=True)
        ]

    def responses(self, persona_source, response_source, told: str) -> list[dict]:
        """What a response generator answers, and how likely it finds the gold."""
        # Early stopping may have kept the supervised weights: no need to ask twice.
        asked = (self._same(persona_source), self._same(response_source), told)
        if asked not in self._answered:
            self._answered[asked] = self._respond(*asked)
        return self._answered[asked]

    def _respond(self, persona_source, response_source, told: str) -> list[dict]:
        model, params, prompts = self._load(response_source)
        partners = self._partners(prompts, persona_source, told)
        pairs = list(zip(self._asked, partners, strict=True))
        examples = [prompts.response_example(i, p) for i, p in pairs]
        scores = self._scorer(model)(params, examples)
        limit = self._config.prompts.max_response_tokens
        generator = self._generator(model, limit, prompts)
        rows = [prompts.response_prompt(i, p) for i, p in pairs]
        # Odd, where personas have even ones: the two must not share their randomness.
        ids = 2 * np.arange(len(rows)) + 1
        answers = generator(params, rows, self._config.seed, ids)
        texts = [prompts.text(a.tokens) for a in answers]
        known = [None if p is None else prompts.text(p) for p in partners]
        records = self.judged(texts, [k or "" for k in known])
        for record, partner in zip(records, known, strict=True):
            score = scores[record["id"]]
            record |= {**score._asdict(), "partner_persona": partner}
            record["critic_score"] = record["critic_score"] if told != "none" else None
        return records

    def judged(self, texts: Sequence[str], personas: Sequence[str]) -> list[dict]:
        """Records of responses, with the critic's P(related to the persona)."""
        if self._critic is None:
            scores = [None] * len(texts)
        else:
            scores = [float(s) for s in self._critic.score(personas, texts)]
        return [
            {
                "id": i.id,
                "response": text,
                "nll": None,
                "tokens": None,
                "partner_persona": None,
                "critic_score": score,
            }
            for i, text, score in zip(self._asked, texts, scores, strict=True)
        ]

    def _partners(self, prompts: Prompts, source, told: str):
        if told == "none":
            return [None] * len(self._asked)
        if told == "gold":
            return [prompts.persona_target(i.partner_persona) for i in self._asked]
        if told == "generated":
            return [prompts.generated_persona(p.tokens) for p in self._infer(source)]
        raise UserError(
            f"a row of {self._config.name} is told {told!r}, expected none, gold or "
            "generated."
        )

    def _same(self, source):
        """The source that was asked first among those with the same weights."""
        if source is None:
            return None
        sha256 = params_sha256(self._load(source)[1])
        return self._first_with.setdefault(sha256, source)

    def _infer(self, source) -> list[Completion]:
        source = self._same(source)
        if source not in self._inferred:
            model, params, prompts = self._load(source)
            limit = self._config.prompts.max_persona_tokens
            generator = self._generator(model, limit, prompts)
            rows = [prompts.persona_prompt(i) for i in self._asked]
            ids = 2 * np.arange(len(rows))
            self._inferred[source] = generator(params, rows, self._config.seed, ids)
        return self._inferred[source]

    def _generator(self, model, limit: int, prompts: Prompts) -> Generator:
        config, key = self._config, (model, limit, prompts.end_id)
        if key not in self._generators:
            self._generators[key] = Generator(
                model,
                Decoding(limit, temperature=config.temperature, top_p=config.top_p),
                prompts.end_id,
                batch_size=config.batch_size,
                bucket=128,
            )
        return self._generators[key]

    def _scorer(self, model) -> Scorer:
        if model not in self._scorers:
            self._scorers[model] = Scorer(model, self._config.batch_size)
        return self._scorers[model]

    def _load(self, source):
        """(model, params, prompts) of (stage, folder)."""
        if source not in self._models:
            stage, name = source
            model, params, tokenizer = pretrained.load(
                self._workdir / stage / name, dtype=jnp.dtype(self._config.dtype)
            )
            prompts = Prompts(tokenizer, self._config.prompts)
            self._models[source] = (model, params, prompts)
        return self._models[source]
