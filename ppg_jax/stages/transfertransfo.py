"""TransferTransfo: responses, and which of several goes on best.

Wolf et al., 2019, https://arxiv.org/abs/1901.08149. A decoder with two heads reads the
self persona and the last turns, each token with its speaker (`data.speakers`,
`models.double_heads`). The loss is lm_coef times the mean NLL of the gold response's
tokens, its end included, and mc_coef times the cross entropy of the gold response
among the candidates, by the hidden state of each one's last token.

Differs from its published code: the candidates of an instance branch off one pass over
what they have in common, which gives the same states; the best validation may be kept;
gradients of a batch's parts are summed before they are clipped, not in between. Of a
folder of ParlAI's files those with candidates are not read where the ones without lie
beside them, as in the download (`data.corpus`): then distractors are drawn from other
conversations, where the published code has the file's. See `models.double_heads`, too,
for what that has otherwise.

Axes: B instances, M targets, C candidates.
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_count, require_one_of, require_positive
from ppg_jax.data.batching import Batches
from ppg_jax.data.candidates import distractors
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.examples import checked, tell_cut
from ppg_jax.data.passes import Example
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.data.speakers import Spoken
from ppg_jax.inference.choosing import Chooser, Found, choice_nll, read_candidates
from ppg_jax.models import adapters, double_heads, starts
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.llama import LlamaConfig
from ppg_jax.models.quantize import quantize
from ppg_jax.training import loop
from ppg_jax.training.best import KEPT, BestState
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    accumulate,
    make_optimizer,
    params_sha256,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One TransferTransfo; defaults are those of its published code.

    name: its folder in the run directory. tokenizer, init, init_stage, model and
    adapter_rank: what it starts from, as of a generator (`stages.supervised`).
    candidates: responses that training tells apart, the gold one among them; the others
    are of the file, or of other dialogues, drawn by the seed. max_history: exchanges
    before the newest utterance that it reads. lm_coef, mc_coef: what the two losses
    count. batch_size: instances. micro_batches: parts the gradient is summed over.
    validation_dialogues: the first so many; 0 is all. evaluate_candidates: among how
    many the gold response has to be found there. keep: the weights with the best
    validation perplexity, or the last ones.
    """

    name: str
    data: DataConfig = DataConfig()
    prompts: PromptConfig = PromptConfig()
    tokenizer: str = "bpe:8192"
    init: str = ""
    init_stage: str = ""
    model: GPT2Config | LlamaConfig = GPT2Config()
    adapter_rank: int = 0
    dtype: str = "float32"  # that it computes in; its weights are float32
    dropout: bool = True  # the model's own rates, or none
    candidates: int = 2
    max_history: int = 2
    lm_coef: float = 1.0
    mc_coef: float = 1.0
    batch_size: int = 32
    micro_batches: int = 1
    widths: int = 8  # padded lengths that the batches have at most
    epochs: float = 3.0
    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=6.25e-5, schedule="linear", clip_norm=1.0
    )
    seed: int = 0  # of the heads, the candidates, the order and dropout
    validation_dialogues: int = 128
    evaluate_candidates: int = 20
    evaluate_every: int = 500  # updates
    keep: str = "best"
    checkpoint_every: int = 500  # updates; what a kill may cost
    log_every: int = 20  # updates

    task: ClassVar[str] = "double heads"

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages of the run directory that have to be finished before."""
        return (self.init_stage,) if self.init_stage else ()

    def __post_init__(self):
        require_one_of(self, dtype=DTYPES, keep=KEPT)
        require_positive(self, "batch_size", "micro_batches", "widths", "epochs")
        require_positive(self, "log_every", "evaluate_every", "lm_coef", "mc_coef")
        require_count(self, "adapter_rank", "max_history", "seed")
        require_count(self, "validation_dialogues", "checkpoint_every")
        for field in ("candidates", "evaluate_candidates"):
            if getattr(self, field) < 2:
                told = f"{field}={getattr(self, field)} leaves nothing to choose"
                raise ValueError(f"{told}; give 2 or more.")
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of "
                f"micro_batches={self.micro_batches}."
            )
        starts.require_one_start(self)


def run(config: Config, workdir: Path) -> dict:
    """Trains the model in `workdir`/`config.name`, or goes on, or says it is done.

    Returns the content of result.json: steps, validation perplexity and hits@1,
    params_sha256.
    """
    workdir = Path(workdir)
    splits, tokenizer, first, read = starts.begin(config, workdir)
    folder = workdir / config.name

    def make() -> dict:
        return train(config, folder, splits, tokenizer, first)

    return run_dir.once(folder, config, read, make, double_heads.load)


def train(config: Config, folder: Path, splits, tokenizer, first: list) -> dict:
    """Trains and exports the model; returns its result.

    first: what `starts.start_of` gives, popped, so that nobody keeps the first weights.
    """
    decoder, params = starts.initial(config, tokenizer, first.pop())
    model, params = double_heads.with_heads(decoder, params, config.seed)
    spoken = Spoken(
        Prompts(tokenizer, config.prompts), model.config.vocab_size, config.max_history
    )
    learned = examples(config, spoken, splits, "train")
    how, parts = (config.batch_size, config.seed, config.widths), config.micro_batches
    batches = Batches(learned, *how, parts=parts)
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    tx = make_optimizer(config.optimizer, steps)
    train_step = make_train_step(config, model, tx)
    learning, base = double_heads.trained(params)
    base = quantize(base, "float32", model.dtype) if base else base
    chooser = Chooser(model, config.evaluate_candidates, _rows(config), config.widths)
    valid = examples(config, spoken, splits, "valid")

    def measure(trained: dict) -> Found:
        return chooser(adapters.join(trained, base), valid)

    def take_step(state: BestState, step: int):
        state_, metrics = train_step(state.training, batches(step), base)
        return state.replace(training=state_), metrics

    parameters = sum(p.size for p in jax.tree.leaves(params))
    state = [BestState.create(learning, tx, config.keep)]
    del params, learning
    state = loop.train(
        config.name,
        folder,
        state.pop(),
        take_step,
        loop.Schedule.of(config, steps, batches.steps_per_epoch),
        make_evaluate(config, measure),
    )
    kept, learned = state.kept
    source = starts.source_of(folder.parent, config.init, config.init_stage)
    based = starts.base_of(source, config.adapter_rank)
    double_heads.export(model, learned, tokenizer, folder / run_dir.MODEL, based)
    found = measure(learned)
    return {
        "steps": int(state.step),
        "kept_step": kept,
        "parameters": parameters,
        "trained_parameters": sum(p.size for p in jax.tree.leaves(learned)),
        "valid_ppl": float(np.exp(found.nll)),
        "valid_hits_at_1": found.hits,
        "candidates": config.evaluate_candidates,
        "params_sha256": params_sha256(learned),
        "weights": {run_dir.MODEL: params_sha256(double_heads.split(learned)[0])},
    }


def _rows(config: Config) -> int:
    """Of a pass, that memory has room for."""
    return config.batch_size // config.micro_batches


def examples(config: Config, spoken: Spoken, splits, split: str) -> list[Example]:
    """One pass per instance, with as many candidates as training or validation has."""
    limit, number = 0, config.candidates
    if split == "valid":
        limit, number = config.validation_dialogues, config.evaluate_candidates
    dialogues = splits[split][: limit or None]
    spoken.prompts.prime(dialogues)
    others = distractors(dialogues, number - 1, config.seed)
    known = len(spoken.prompts.cut)
    asked = (instance for dialogue in dialogues for instance in dialogue.instances())
    made = [spoken.example(instance, others[instance.id]) for instance in asked]
    tell_cut(spoken.prompts, known)
    return checked(made, split, config.data.source)


def make_evaluate(config: Config, measure):
    """state -> (state, metrics): perplexity and hits@1, and the best one kept."""

    def evaluate(state: BestState):
        nll, hits = measure(state.training.params)
        ppl = np.exp(nll)
        told = f"valid perplexity {ppl:.3f}, hits@1 {hits:.3f}"
        print(f"{config.name}: {told}", file=sys.stderr)
        metrics = {"valid_nll": nll, "valid_ppl": ppl, "valid_hits_at_1": hits}
        return state.seen(nll), metrics

    return evaluate


def make_train_step(config: Config, model, tx):
    """(state, batch, base) -> (state, metrics), jitted; the state is donated.

    The state's parameters are what is trained, `base` the others (`models.adapters`),
    {} if there are none.
    """

    def loss(trained: dict, base: dict, batch, rng, targets, rows):
        log_probs, scores = read_candidates(
            model,
            adapters.join(trained, base),
            batch,
            config.candidates,
            rng if config.dropout else None,
        )
        counted = batch.target_mask.any(axis=1)
        lm = -jnp.sum(log_probs, where=batch.target_mask) / targets
        mc = jnp.sum(choice_nll(scores), where=counted) / rows
        right = jnp.argmax(scores, axis=1) == config.candidates - 1
        told = {
            "lm_loss": lm,
            "mc_loss": mc,
            "accuracy": jnp.sum(right, where=counted) / rows,
        }
        return config.lm_coef * lm + config.mc_coef * mc, told

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch, base: dict):
        # A key derived from the step makes a resumed run repeat the original one, so
        # the checkpoint does not have to carry a PRNG state.
        rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
        # Of the whole batch: the parts' losses add up to its loss.
        targets = jnp.sum(batch.target_mask)
        rows = jnp.sum(batch.target_mask.any(axis=1))

        def part_of(batch, rng):
            return jax.value_and_grad(loss, has_aux=True)(
                state.params, base, batch, rng, targets, rows
            )

        (total, told), grads = accumulate(part_of, batch, rng, config.micro_batches)
        norm = optax.tree.norm(grads)
        metrics = {"loss": total, **told, "grad_norm": norm}
        return state.apply_gradients(grads, tx), metrics

    return train_step
