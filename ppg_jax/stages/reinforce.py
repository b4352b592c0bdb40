"""REINFORCE on both generators with the critic's reward (paper, section 3.3).

One update: the persona policy samples a partner persona for each of 20 instances (turns
of a few dialogues, one after the other, as a loader of dialogues gives them), its
tokens are spliced into the prompts of the response policy, which samples a response;
the frozen critic judges (persona, response); each policy takes one Adam step along
-R grad log P of what it said itself.

Differs from the paper: nothing in the `paper` preset. A baseline, a KL penalty to the
supervised models and an entropy bonus are there, and off by default.

Axes: B instances.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_count, require_one_of, require_positive
from ppg_jax.data import corpus
from ppg_jax.data.batching import InstanceBatches, bucket
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, instances
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.data.said import ORDERS
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.generation import row_keys
from ppg_jax.inference.sampling import Decoding
from ppg_jax.models import adapters, pretrained, starts
from ppg_jax.rl.rewards import (
    BASELINES,
    REWARDS,
    Payment,
    advantages_of,
    require_learning,
)
from ppg_jax.rl.rollouts import make_sampler, prompts_of
from ppg_jax.rl.update import Objective, Policies, Policy, ReinforceState, make_update
from ppg_jax.rl.validation import (
    CRITERIA,
    Validator,
    finished,
    initial_state,
    subset_of,
)
from ppg_jax.training import loop
from ppg_jax.training.train_state import OptimizerConfig, make_optimizer, params_sha256

BATCHINGS = ("dialogue", "instance")
POLICIES = ("persona", "response")
# Stages beside the joint one: name -> what a table calls it, and what is changed. Those
# of Table 7 (section 5.7), and those beyond the paper.
TABLE_7: dict[str, tuple[str, dict]] = {
    "persona": ("of the persona generator alone", {"train_response": False}),
    "response": ("of the response generator alone", {"train_persona": False}),
} | {
    f"{p}_x{n}": (f"{p} reward x{n}", {f"{p}_reward_scale": float(n)})
    for n in (10, 100)
    for p in POLICIES
}
VARIANTS: dict[str, tuple[str, dict]] = {
    "no_baseline": ("no baseline", {"baseline": "none"}),
    "no_kl": ("no KL penalty", {"kl_coefficient": 0.0}),
    "bare": ("neither baseline nor KL", {"baseline": "none", "kl_coefficient": 0.0}),
    "traits": ("trait F1 as reward", {"reward": "trait_f1", "train_response": False}),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The joint training of a persona and a response generator.

    persona, response, critic: stages of the same run directory, finished before.
    train_*: False freezes that policy (Table 7). *_reward_scale: factor of the reward
    (section 5.7). Under Adam, which divides a gradient by its own size, it does nothing
    to a relative 1e-4, nor where each gradient is clipped by its norm; a KL penalty or
    an entropy bonus weighs the less beside it. reduce: "sum" or "mean" of the log-probs
    over tokens; KL and entropy are in nats per token, whatever `reduce` is. temperature
    0 trains on greedy completions; top_k 0 and top_p 1 are off. batching: whether an
    update's instances are turns that follow each other, whose common context is then
    read once, or drawn one by one. micro_batches: parts that a gradient is summed over,
    at least; cut are the packed rows. updates: at most; 0 is one epoch. dtype: what
    both policies compute in; their weights stay float32. validation_instances: how many
    each validation measures, always the same ones, drawn by `seed`; 0 is all. *_every:
    counted in updates. criterion: the NLL that the best policies have least of, of the
    gold response or persona; the last are kept, too. patience: after how many
    validations in a row without a better one training stops.
    """

    name: str = "reinforce"
    persona: str = "persona"
    response: str = "response"
    critic: str = "critic"
    data: DataConfig = DataConfig()
    prompts: PromptConfig = PromptConfig()
    train_persona: bool = True
    train_response: bool = True
    persona_reward_scale: float = 1.0
    response_reward_scale: float = 1.0
    reward: str = "sign"  # the paper's; or soft, log_odds; or trait_f1, of no critic
    baseline: str = "none"  # the paper's; or leave_one_out
    reduce: str = "sum"
    kl_coefficient: float = 0.0  # of the KL to the supervised models
    entropy_coefficient: float = 0.0  # of a bonus
    temperature: float = 1.0  # 0: greedy, not sampled; the paper is silent
    top_k: int = 0
    top_p: float = 1.0
    batching: str = "dialogue"
    batch_size: int = 20  # instances of an update
    micro_batches: int = 1
    updates: int = 0
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-6)
    dtype: str = "float32"
    seed: int = 0  # of the order, of what is sampled, of the validation
    validation_instances: int = 1000
    evaluate_every: int = 50
    criterion: str = "response_nll"
    patience: int = 10
    checkpoint_every: int = 50
    log_every: int = 5

    task: ClassVar[str] = "reinforce"

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages of the run directory that have to be finished before."""
        return self.persona, self.response, self.critic

    def __post_init__(self):
        require_one_of(
            self,
            reward=REWARDS,
            baseline=BASELINES,
            reduce=("sum", "mean"),
            batching=BATCHINGS,
            dtype=DTYPES,
            criterion=CRITERIA,
        )
        # Without a validation after an update the best policies stay the first ones,
        # and without patience there is no update.
        require_positive(self, "batch_size", "micro_batches", "log_every")
        require_positive(self, "evaluate_every", "patience")
        require_count(self, "checkpoint_every", "seed")
        require_count(self, "kl_coefficient", "entropy_coefficient")
        for field, zero in [("updates", "one epoch"), ("validation_instances", "all")]:
            if getattr(self, field) < 0:
                told = f"{field}={getattr(self, field)} must be >= 0; 0 is {zero}."
                raise ValueError(told)
        if self.batch_size == 1 and self.baseline != "none":
            raise ValueError(
                f"baseline={self.baseline!r} is the mean of the others of an update, "
                'and batch_size=1 has none; give batch_size=2 or more, or "none".'
            )
        self.decoding(1)  # says what is wrong with temperature, top_k and top_p
        require_learning(self)

    @property
    def payment(self) -> Payment:
        return Payment(
            self.reward,
            self.baseline,
            self.persona_reward_scale,
            self.response_reward_scale,
        )

    @property
    def objective(self) -> Objective:
        trained = {"persona": self.train_persona, "response": self.train_response}
        return Objective(
            self.decoding(1),
            self.batch_size,
            bucket(self.prompts.max_length),
            self.reduce,
            self.kl_coefficient,
            self.entropy_coefficient,
            self.micro_batches,
            tuple(name for name, learns in trained.items() if learns),
        )

    @property
    def decodings(self) -> tuple[Decoding, Decoding]:
        """Of the persona and of the response policy."""
        limits = self.prompts
        return (
            self.decoding(limits.max_persona_tokens),
            self.decoding(limits.max_response_tokens),
        )

    def decoding(self, max_new_tokens: int) -> Decoding:
        return Decoding(max_new_tokens, self.temperature, self.top_k, self.top_p)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run reads: the data, and what three stages have trained."""

    splits: dict[str, Sequence[Dialogue]]
    policies: Policies
    sums: dict[str, str]  # SHA-256 of the weights of each of the three, and of bases
    bases: tuple[str, str]  # of each policy's adapters; "" of whole models
    tokenizer: object
    critic: Critic


def run(config: Config, workdir: Path) -> dict:
    """Trains both policies in `workdir`/`config.name`, goes on, or says it is done."""
    workdir = Path(workdir)
    folder = workdir / config.name
    inputs = _load(config, workdir)

    def make() -> dict:
        state = _train(config, folder, inputs)
        last = {"persona": state.persona.params, "response": state.response.params}
        weights = _export(inputs, "model", state.best.params, folder)
        weights |= _export(inputs, "last", last, folder)
        return _result(config, state) | {"weights": weights}

    load = functools.partial(pretrained.load, bases={})
    return run_dir.once(folder, config, _read(config, workdir, inputs), make, load)


def _load(config: Config, workdir: Path) -> Inputs:
    splits = corpus.load_splits(config.data)
    stages = [run_dir.finished_stage(workdir, getattr(config, p)) for p in POLICIES]
    known: dict = {}
    models, trees, tokenizers = zip(
        *(
            pretrained.load(stage / "model", dtype=jnp.dtype(config.dtype), bases=known)
            for stage in stages
        ),
        strict=True,
    )
    judge = run_dir.finished_stage(workdir, config.critic) / "model"
    critic = Critic.load(judge, bases=known)
    parts = [adapters.split(tree) for tree in trees]
    policies = Policies(
        *(Policy(m, *part) for m, part in zip(models, parts, strict=True))
    )
    learned = {
        f"{n} generator": p.learned for n, p in zip(POLICIES, policies, strict=True)
    }
    based = {
        f"base of the {n} generator": p.base
        for n, p in zip(POLICIES, policies, strict=True)
        if p.base
    }
    learned["critic"], base = adapters.split(critic.params)
    if base:
        based["base of the critic"] = base
    read = learned | based
    return Inputs(
        splits,
        policies,
        {name: params_sha256(params) for name, params in read.items()},
        tuple(pretrained.base_of(stage / "model") for stage in stages),
        tokenizers[0],
        critic,
    )


def _read(config: Config, workdir: Path, inputs: Inputs) -> dict[str, str]:
    """What the stage reads, by SHA-256; refuses stages of other data or prompts."""
    told = starts.tokenizer_of(workdir, config.response)
    starts.require_one_tokenizer(workdir, config.persona, told)
    data = corpus.sums_of(inputs.splits, "train", "valid")
    for name in (config.persona, config.response, config.critic):
        run_dir.agree(workdir / name, config, data, "prompts")
    return inputs.sums | data


def _train(config: Config, folder: Path, inputs: Inputs) -> ReinforceState:
    policies = inputs.policies
    train, valid = (inputs.splits[split] for split in ("train", "valid"))
    prompts = Prompts(inputs.tokenizer, config.prompts)
    prompts.prime(train + valid)
    for first in (instances([dialogue])[:1] for dialogue in train):
        if first:  # the personas of a dialogue decide what is too long
            prompts_of(prompts, first)
    batches = InstanceBatches(train, config.batch_size, config.seed, config.batching)
    updates = config.updates or batches.steps_per_epoch
    tx = make_optimizer(config.optimizer, updates)
    learned = run_dir.settings_of(folder.parent / config.persona)
    order = ORDERS[learned.get("persona_order", "as_given")]
    subset = subset_of(valid, config.validation_instances, config.seed)
    subset = [order(instance) for instance in subset]
    return loop.train(
        config.name,
        folder,
        initial_state(policies, tx),  # named nowhere: a checkpoint's takes its place
        _make_step(config, inputs.critic, policies, prompts, batches, tx, updates),
        loop.Schedule.of(config, updates, batches.epoch),
        Validator(config.name, prompts, subset, policies, config.criterion),
        finished(config.patience),
    )


def _make_step(
    config: Config, critic: Critic, policies: Policies, prompts, batches, tx, updates
):
    """(state, step) -> (state, metrics): sample, judge, update."""
    persona, response = policies
    models = persona.model, response.model
    sample = make_sampler(models, config.prompts, config.decodings, prompts.end_id)
    update = make_update(config.objective, policies, tx)

    def take_step(state: ReinforceState, step: int):
        chosen = batches(step)
        keys = row_keys(config.seed, step * config.batch_size + np.arange(len(chosen)))
        prompted = prompts_of(prompts, chosen)
        now = persona.params(state.persona.params)
        then = response.params(state.response.params)
        rollouts = jax.device_get(sample(now, then, prompted, keys))
        judged = advantages_of(config.payment, critic, prompts, rollouts, chosen)
        watch = (step + 1) % config.log_every == 0 or step + 1 == updates
        state, metrics = update(state, prompted, rollouts, judged.advantages, watch)
        return state, judged.metrics | metrics

    return take_step


def _export(inputs: Inputs, name: str, learned: dict, folder: Path) -> dict[str, str]:
    """Writes both policies as NAME_persona and NAME_response; SHA-256 of each."""
    for policy, given, base in zip(
        POLICIES, inputs.policies, inputs.bases, strict=True
    ):
        target = folder / f"{name}_{policy}"
        params = learned[policy]
        pretrained.export(given.model, params, inputs.tokenizer, target, base)
    return {f"{name}_{policy}": params_sha256(learned[policy]) for policy in POLICIES}


def _result(config: Config, state: ReinforceState) -> dict:
    """The content of result.json."""
    best, judged = state.best, config.criterion.removesuffix("_nll")
    return {
        "updates": int(state.step),
        "best_update": int(best.step),
        "stopped_because": finished(config.patience)(state) or "all updates done",
        "criterion": config.criterion,
        f"valid_{judged}_ppl_before": float(np.exp(state.first[config.criterion])),
        f"valid_{judged}_ppl": float(np.exp(best.nll)),
        "params_sha256": params_sha256([best.params[name] for name in POLICIES]),
    }
