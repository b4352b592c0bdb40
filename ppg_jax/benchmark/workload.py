"""What the contestants are given: the same model folders, one list of real dialogues.

A `Job` travels to every contestant's process, where `Workload` reads it: the same
weights, the same tokens, in the same order.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ppg_jax.data import corpus, pairs
from ppg_jax.data.batching import (
    Batch,
    InstanceBatches,
    best_widths,
    collate,
    epoch_order,
)
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, Instance, instances
from ppg_jax.data.passes import Example
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.data.tokenization import load_tokenizer
from ppg_jax.data.told import told_persona
from ppg_jax.errors import UserError
from ppg_jax.training.train_state import OptimizerConfig

PAIR_LENGTH = 128
# So small that the work of later laps is that of the first.
OPTIMIZER = OptimizerConfig(learning_rate=1e-5)
WIDTHS = 8  # as `ppg_jax.stages.supervised.Config` has it


@dataclasses.dataclass(frozen=True)
class Job:
    """One race.

    generator, critic: model folders, of adapters in PEFT's form where these alone are
    trained. pair: those of the persona and the response generator that `generate` asks
    and `reinforce` trains; () is `generator` for both. adapters: the same pair as
    adapters of one base. tolerance: how far numbers may be apart, relative to the
    largest, in float32. source: of `DataConfig`. instances: how many of
    the split: the first ones to answer; the first updates of training on the whole
    split, where dialogues are trained or scored, and of reinforce; of critic drawn by
    the seed. batch_size: dialogues, contexts or pairs computed at once. micro_batch:
    instances that PyTorch learns or scores at once, contexts that CTranslate2 answers
    at once. parts: that we sum a gradient over. top_p: 0 is greedy. weights: of
    `generate`, as in `ppg_jax.inference.pipeline.PipelineConfig`.
    """

    suite: str
    generator: str
    critic: str
    source: str
    split: str
    instances: int
    batch_size: int
    micro_batch: int
    parts: int = 1
    task: str = "response"
    dtype: str = "float32"
    dropout: bool = False
    top_p: float = 0.0
    weights: str = "float32"
    prompts: PromptConfig = PromptConfig()
    seed: int = 0
    pair: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    tolerance: float = 4e-6

    @property
    def answering(self) -> tuple[str, str]:
        """The folders of the persona and of the response generator."""
        return self.pair or (self.generator, self.generator)


class Part(NamedTuple):
    """Rows that are computed at once."""

    batch: Batch
    ids: list[tuple[str, ...]]  # of the instances in each row


class Workload:
    """A job's dialogues, instances and tokens."""

    def __init__(self, job: Job):
        self.job = job
        self._all = corpus.load_splits(DataConfig(source=job.source))[job.split]
        self.prompts = Prompts(load_tokenizer(job.answering[0]), job.prompts)
        self._known = {i.id: i for i in instances(self._all)}

    def first_instances(self) -> list[Instance]:
        """The contexts of `generate`: the first of the split, as a file has them."""
        return instances(self._all)[: self.job.instances or None]

    def reinforced_instances(self) -> list[Instance]:
        """Those of the first updates of `reinforce`."""
        size = self.job.batch_size
        batches = InstanceBatches(self._all, size, self.job.seed, "dialogue")
        updates = -(-self.job.instances // size) or batches.steps_per_epoch
        return [instance for step in range(updates) for instance in batches(step)]

    def dialogue_examples(self) -> list[Example]:
        """One causal pass for each dialogue."""
        return [e for examples in self._plan[0] for e in examples]

    def trained_instances(self) -> int:
        """How many instances the updates have."""
        return sum(len(e.ids) for e in self.dialogue_examples())

    def updates(self, form: str) -> list[list[Part]]:
        """What each update learns from: one part, or micro-batches of like lengths."""
        plan, widths = self._plan
        if form == "dialogue":
            return [[_part(e, self.job.batch_size, widths)] for e in plan]
        return [self._micro_batches(examples) for examples in plan]

    def parts(self, form: str) -> list[Part]:
        """What is scored at once: like lengths, as `inference.scoring.Scorer` does."""
        if form == "instance":
            return self._micro_batches(self.dialogue_examples())
        size = self.job.batch_size
        order = sorted(self.dialogue_examples(), key=len)
        starts = range(-(-len(order) % size), len(order), size)
        chunks = [order[max(at, 0) : at + size] for at in starts]
        widths = best_widths([len(chunk[-1]) for chunk in chunks], WIDTHS)
        return [_part(chunk, size, widths) for chunk in chunks]

    @functools.cached_property
    def _plan(self) -> tuple[list[list[Example]], np.ndarray]:
        """The first updates of training on the whole split, and its padded lengths."""
        self.prompts.prime(self._all)
        examples = [e for d in self._all for e in self._of_dialogue(d)]
        lengths = np.array([len(e) for e in examples])
        plan, have = [], 0
        for rows in epoch_order(lengths, self.job.batch_size, self.job.seed, 0):
            plan.append([examples[i] for i in rows])
            have += sum(len(e.ids) for e in plan[-1])
            if have >= self.job.instances > 0:
                break
        return plan, best_widths(lengths, WIDTHS)

    def _micro_batches(self, examples: Sequence[Example]) -> list[Part]:
        ids = [name for e in examples for name in e.ids]
        rows = sorted((self._of_instance(self._known[i]) for i in ids), key=len)
        size = self.job.micro_batch
        return [_part(rows[at : at + size]) for at in range(0, len(rows), size)]

    def pair_texts(self) -> tuple[list[str], list[str]]:
        """Profiles and responses of the critic's pairs."""
        made = self._pairs()
        return [p.profile_text for p in made], [p.response for p in made]

    def pair_batches(self, mixed: bool = False) -> list[pairs.PairBatch]:
        """The critic's batches of like lengths; mixed: in the order of the pairs."""
        made, size = self._pairs(), self.job.batch_size
        if size % pairs.COUPLE:
            told = f"--batch_size={size} of the critic is not a multiple of"
            raise UserError(f"{told} {pairs.COUPLE}.")
        if not mixed:
            batches = pairs.PairBatches(self.pair_encoder(), made, size, 0)
            return [batches(step) for step in range(batches.steps_per_epoch)]
        rows = self.pair_encoder()(*self.pair_texts())
        labels = [p.label for p in made]
        starts = range(0, len(rows), size)
        return [
            pairs.collate(rows[at : at + size], labels[at : at + size], size)
            for at in starts
        ]

    def pair_encoder(self) -> pairs.PairEncoder:
        """Profiles and responses -> token rows, with the critic's own vocabulary."""
        tokenizer = load_tokenizer(self.job.critic)
        return pairs.PairEncoder(tokenizer, PAIR_LENGTH)

    def _pairs(self) -> list[pairs.Pair]:
        # Half of the pairs are unrelated.
        return pairs.pairs(self._all, "self", self.job.seed, self.job.instances // 2)

    def _of_dialogue(self, dialogue: Dialogue) -> list[Example]:
        if self.job.task == "persona":
            return self.prompts.persona_dialogue(dialogue)
        return self.prompts.response_dialogue(dialogue, self._partner(dialogue))

    def _of_instance(self, instance: Instance) -> Example:
        if self.job.task == "persona":
            return self.prompts.persona_example(instance)
        return self.prompts.response_example(instance, self._partner(instance))

    def _partner(self, source: Dialogue | Instance) -> list[int] | None:
        persona = source.partner_persona
        return self.prompts.persona_target(persona) if persona else None


def replies(
    work: Workload, complete: Callable[[int, list[list[int]], int], list[list[int]]]
) -> tuple[list[list[int]], list[list[int]]]:
    """Personas as they are told to the response generator, and responses: tokens.

    complete: (0 or 1 for the generator, prompts, new tokens at most) -> completions
    without end tokens, in the order of the prompts.
    """
    prompts, limits = work.prompts, work.prompts.config
    chosen, longest = work.first_instances(), limits.max_persona_tokens
    made = complete(0, [prompts.persona_prompt(i) for i in chosen], longest)
    personas = [
        told_persona(prompts, said, instance, len(said) < longest)
        for said, instance in zip(made, chosen, strict=True)
    ]
    pairs = zip(chosen, personas, strict=True)
    rows = [prompts.response_prompt(i, persona) for i, persona in pairs]
    responses = complete(1, rows, limits.max_response_tokens)
    for tokens in made + responses:
        prompts.text(tokens)
    return personas, responses


def as_checks(work: Workload, personas, responses) -> dict[str, np.ndarray]:
    """What `replies` made, as the results of a contestant."""
    limits = work.prompts.config
    return {
        "persona": padded(personas, limits.max_persona_tokens),
        "response": padded(responses, limits.max_response_tokens),
    }


def _part(examples: Sequence[Example], height: int = 0, widths=None) -> Part:
    return Part(collate(examples, height, widths=widths), [e.ids for e in examples])


def in_order(scores) -> np.ndarray:
    """Nats of each instance, in the order of the ids."""
    return np.array([scores[name].nll for name in sorted(scores)])


def padded(rows, width: int) -> np.ndarray:
    """Token rows as int32 [N, width], -1 where there is no token."""
    table = np.full((len(rows), width), -1, np.int32)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def count(job: Job) -> int:
    """How many instances one lap has (pairs, of the critic)."""
    work = Workload(job)
    if job.suite == "critic":
        return len(work.pair_texts()[0])
    if job.suite in ("train", "score"):
        return work.trained_instances()
    learned = job.suite == "reinforce"
    return len(work.reinforced_instances() if learned else work.first_instances())
