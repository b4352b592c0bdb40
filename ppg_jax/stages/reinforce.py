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
import sys
from collections.abc import Sequence
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax import run_dir
from ppg_jax.config import DTYPES, require_one_of, require_positive
from ppg_jax.data import corpus
from ppg_jax.data.batching import InstanceBatches, bucket
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, instances
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.generation import Rollout, row_keys
from ppg_jax.inference.generator import Completion, Generator, completions_of
from ppg_jax.inference.sampling import Decoding, filter_logits
from ppg_jax.inference.scoring import Scorer, mean_nll, target_logits
from ppg_jax.losses import entropy, kl_divergence, reinforce_loss, token_log_probs
from ppg_jax.metrics.distinct import distinct
from ppg_jax.models import pretrained
from ppg_jax.rl import rewards
from ppg_jax.rl.rollouts import (
    branched,
    completed,
    make_sampler,
    prompts_of,
    update_batch,
)
from ppg_jax.training import loop
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    accumulate,
    make_optimizer,
    params_sha256,
)

BATCHINGS = ("dialogue", "instance")
# What a validation measures.
MEASURED = ("response_nll", "persona_nll", "persona_distinct_2")


@dataclasses.dataclass(frozen=True)
class Config:
    """The joint training of a persona and a response generator.

    persona, response, critic: stages of the same run directory, finished before.
    train_*: False freezes that policy (Table 7). *_reward_scale: factor of the reward
    (section 5.7). reduce: "sum" or "mean" of the log-probs over tokens. temperature 0
    trains on greedy completions; top_k 0 and top_p 1 are off. batching: whether an
    update's instances are turns that follow each other, whose common context is then
    read once, or drawn one by one. micro_batches: parts that a gradient is summed over,
    at least; cut are the packed rows. updates: at most; 0 is one epoch. dtype: what
    both policies compute in; their weights stay float32. validation_instances: how
    many each validation measures, always the same ones, drawn by `seed`; 0 is all.
    *_every: counted in updates. patience: after how many validations in a row without
    a better response perplexity training stops.
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
    reward: str = "sign"
    baseline: str = "none"
    reduce: str = "sum"
    kl_coefficient: float = 0.0
    entropy_coefficient: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    batching: str = "dialogue"
    batch_size: int = 20
    micro_batches: int = 1
    updates: int = 0
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-6)
    dtype: str = "float32"
    seed: int = 0
    validation_instances: int = 1000
    evaluate_every: int = 50
    patience: int = 10
    checkpoint_every: int = 50
    log_every: int = 5

    def __post_init__(self):
        require_one_of(
            self,
            reward=rewards.REWARDS,
            baseline=rewards.BASELINES,
            reduce=("sum", "mean"),
            batching=BATCHINGS,
            dtype=DTYPES,
        )
        # Without a validation after an update the best policies stay the first ones,
        # and without patience there is no update.
        require_positive(self, "batch_size", "micro_batches", "log_every")
        require_positive(self, "evaluate_every", "patience")
        for field, zero in [("updates", "one epoch"), ("validation_instances", "all")]:
            if getattr(self, field) < 0:
                told = f"{field}={getattr(self, field)} must be >= 0; 0 is {zero}."
                raise ValueError(told)
        self.decoding(1)  # says what is wrong with temperature, top_k and top_p
        if not (self.train_persona or self.train_response):
            raise ValueError(
                "train_persona=False and train_response=False leave nothing to train; "
                "set one of them to True."
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
        return Decoding(
            max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
        )


@flax.struct.dataclass
class ReinforceState:
    """Both policies, the best ones so far, and what early stopping looks at."""

    step: jax.Array  # int32; updates done
    persona: TrainState
    response: TrainState
    best: dict  # {"persona": params, "response": params, "nll": scalar, "step": scalar}
    failed: jax.Array  # int32; validations in a row without improvement
    first: dict  # the metrics of the first validation, before any update
    last: dict  # those of the newest


@dataclasses.dataclass(frozen=True)
class Policies:
    """The two models and their supervised weights, the reference of the KL."""

    persona_model: object
    response_model: object
    persona_params: dict
    response_params: dict


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run reads: the data, and what three stages have trained."""

    splits: dict[str, Sequence[Dialogue]]
    policies: Policies
    tokenizer: object
    critic: Critic


def run(config: Config, workdir: Path) -> dict:
    """Trains both policies in `workdir`/`config.name`, goes on, or says it is done."""
    workdir = Path(workdir)
    folder = workdir / config.name
    inputs = _load(config, workdir)

    def make() -> dict:
        state = _train(config, folder, inputs)
        _export(inputs, state.best, folder)
        return _result(config, state)

    return run_dir.once(folder, config, _read(config, workdir, inputs), make)


def _load(config: Config, workdir: Path) -> Inputs:
    splits = corpus.load_splits(config.data)
    persona_model, persona, tokenizer = load_stage(config, workdir, config.persona)
    response_model, response, _ = load_stage(config, workdir, config.response)
    critic = Critic.load(run_dir.finished_stage(workdir, config.critic) / "model")
    policies = Policies(persona_model, response_model, persona, response)
    return Inputs(splits, policies, tokenizer, critic)


def load_stage(config: Config, workdir: Path, name: str):
    """(model, params, tokenizer) of a finished stage."""
    folder = run_dir.finished_stage(workdir, name) / "model"
    return pretrained.load(folder, dtype=jnp.dtype(config.dtype))


def _read(config: Config, workdir: Path, inputs: Inputs) -> dict[str, str]:
    """What the stage reads, by SHA-256; refuses stages of other data or prompts."""
    weights = {
        "persona generator": inputs.policies.persona_params,
        "response generator": inputs.policies.response_params,
        "critic": inputs.critic.params,
    }
    data = run_dir.sums_of(inputs.splits, "train", "valid")
    for name in (config.persona, config.response, config.critic):
        run_dir.agree(workdir / name, config, data, "prompts")
    return {name: params_sha256(p) for name, p in weights.items()} | data


def _train(config: Config, folder: Path, inputs: Inputs) -> ReinforceState:
    policies, splits = inputs.policies, inputs.splits
    prompts = Prompts(inputs.tokenizer, config.prompts)
    prompts.prime(splits["train"] + splits["valid"])
    batches = InstanceBatches(
        splits["train"], config.batch_size, config.seed, config.batching
    )
    updates = config.updates or batches.steps_per_epoch
    tx = make_optimizer(config.optimizer, updates)
    models = policies.persona_model, policies.response_model
    return loop.train(
        config.name,
        folder,
        initial_state(policies, tx),  # named nowhere: a checkpoint's takes its place
        _make_step(config, inputs, prompts, batches, tx, updates),
        loop.Schedule(
            updates, config.log_every, config.checkpoint_every, config.evaluate_every
        ),
        Validator(config, prompts, splits["valid"], *models),
        finished(config),
    )


def _make_step(config: Config, inputs: Inputs, prompts: Prompts, batches, tx, updates):
    """(state, step) -> (state, metrics): sample, judge, update."""
    policies, end_id = inputs.policies, prompts.end_id
    models = policies.persona_model, policies.response_model
    sample = make_sampler(models, config.prompts, config.decodings, end_id)
    update = make_update(config, policies, tx)

    def take_step(state: ReinforceState, step: int):
        chosen = batches(step)
        keys = row_keys(config.seed, step * config.batch_size + np.arange(len(chosen)))
        prompted = prompts_of(prompts, chosen)
        rollouts = jax.device_get(
            sample(state.persona.params, state.response.params, prompted, keys)
        )
        judged = judge(config, inputs.critic, prompts, rollouts)
        watch = (step + 1) % config.log_every == 0 or step + 1 == updates
        state, metrics = update(state, prompted, rollouts, judged.advantages, watch)
        return state, judged.metrics | metrics

    return take_step


def _export(inputs: Inputs, best: dict, folder: Path) -> None:
    models = {
        "persona": inputs.policies.persona_model,
        "response": inputs.policies.response_model,
    }
    for name, model in models.items():
        target = folder / f"model_{name}"
        pretrained.export(model, best[name], inputs.tokenizer, target)


def _result(config: Config, state: ReinforceState) -> dict:
    """The content of result.json."""
    best = state.best
    return {
        "updates": int(state.step),
        "best_update": int(best["step"]),
        "stopped_because": finished(config)(state) or "all updates done",
        "valid_response_ppl_before": float(np.exp(state.first["response_nll"])),
        "valid_response_ppl": float(np.exp(best["nll"])),
        "params_sha256": params_sha256([best["persona"], best["response"]]),
    }


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the critic made of one batch."""

    advantages: tuple[np.ndarray, np.ndarray]  # of the persona, of the response; [B]
    metrics: dict[str, float]


def judge(config: Config, critic: Critic, prompts: Prompts, rollouts) -> Judgement:
    """The critic's score of (generated persona, generated response), as advantages.

    rollouts: fetched.
    """
    personas, responses = (completions_of(r, prompts.end_id) for r in rollouts)
    persona_texts = [prompts.text(p.tokens) for p in personas]
    response_texts = [prompts.text(r.tokens) for r in responses]
    score = critic.score(persona_texts, response_texts)
    reward = rewards.reward(score, config.reward)
    scales = (config.persona_reward_scale, config.response_reward_scale)
    metrics = {
        "reward": float(reward.mean()),
        "critic_score": float(score.mean()),
        **_describe("persona", personas, persona_texts),
        **_describe("response", responses, response_texts),
    }
    advantages = tuple(rewards.advantage(reward, config.baseline, s) for s in scales)
    return Judgement(advantages, metrics)


def _describe(name: str, completions: Sequence[Completion], texts) -> dict[str, float]:
    return {
        f"{name}_length": float(np.mean([len(c.tokens) for c in completions])),
        f"{name}_ended": float(np.mean([c.ended for c in completions])),
        f"{name}_distinct_1": distinct(texts, 1),
        f"{name}_distinct_2": distinct(texts, 2),
    }


def _paid(config: Config) -> dict[str, float]:
    """The terms of the loss beside the reward, with their coefficients."""
    terms = {"kl": config.kl_coefficient, "entropy": -config.entropy_coefficient}
    return {name: factor for name, factor in terms.items() if factor}


def _terms(names, logits, model, reference, batch, tokens) -> dict[str, jax.Array]:
    """KL to the reference and entropy, those named: sums over a part of an update, per
    target token of the whole.
    """
    values = {}
    if "kl" in names:
        # Of the whole distributions: two truncated ones may share no support.
        values["kl"] = kl_divergence(logits, target_logits(model, reference, batch))
    if "entropy" in names:
        values["entropy"] = entropy(logits)
    mask = batch.target_mask
    return {name: jnp.sum(v, where=mask) / tokens for name, v in values.items()}


def _make_loss(config: Config):
    """(params, part, model, reference) -> (loss, metrics) of a part of an update.

    part: a batch, each target's advantage, and the target tokens of the whole update.
    """
    decoding, paid = config.decoding(1), _paid(config)

    def loss(params, part, model, reference):
        batch, advantage, tokens = part
        logits = target_logits(model, params, batch)
        sampled = filter_logits(logits, decoding, batch.targets)
        log_probs = token_log_probs(sampled, batch.targets)
        value = reinforce_loss(
            log_probs, batch.target_mask, advantage, config.batch_size
        )
        terms = _terms(paid, logits, model, reference, batch, tokens)
        value += sum(paid[name] * term for name, term in terms.items())
        return value, {"loss": value} | terms

    return loss


def _make_measure(names: Sequence[str]):
    """(model, params, batch, reference) -> the `_terms` named; jitted.

    A program of its own, row by row: within that of the gradient they would take its
    memory at every update, and few are watched.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def measure(model, params, batch, reference):
        tokens = jnp.sum(batch.target_mask)

        def terms(part, _):
            logits = target_logits(model, params, part)
            return _terms(names, logits, model, reference, part, tokens)

        return accumulate(terms, batch, jax.random.key(0), len(batch.tokens))

    return measure


def _make_improve(config: Config, tx):
    """(model, parts, state, batch, advantage, reference) -> (state, metrics); jitted,
    the state is donated.
    """
    loss = _make_loss(config)

    @functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
    def improve(model, parts, state: TrainState, batch, advantage, reference):
        tokens = jnp.sum(batch.target_mask)

        def gradient(rows, _):
            part = (*rows, tokens)
            return jax.grad(loss, has_aux=True)(state.params, part, model, reference)

        grads, metrics = accumulate(
            gradient, (batch, advantage), jax.random.key(0), parts
        )
        return state.apply_gradients(grads, tx), metrics

    return improve


def make_update(config: Config, policies: Policies, tx):
    """(state, prompts, fetched rollouts, advantages, watch) -> (state, metrics), for
    both policies.

    advantages: float32 [B] for each policy. A jit each: in one, XLA runs them side by
    side and needs twice the memory. watch: bool, whether KL to the supervised models
    and entropy are measured, before the update, where the loss does not hold them
    anyway; they are 0 elsewhere.
    """
    free = [name for name in ("entropy", "kl") if name not in _paid(config)]
    measure, improve = _make_measure(free), _make_improve(config, tx)
    policy = {
        "persona": (policies.persona_model, policies.persona_params),
        "response": (policies.response_model, policies.response_params),
    }
    trained = {"persona": config.train_persona, "response": config.train_response}

    def update(state: ReinforceState, prompted, rollouts, advantages, watch: bool):
        states, metrics = {}, {}
        examples = branched(prompted, rollouts[0]), completed(rollouts[1])
        for i, name in enumerate(policy):
            states[name] = getattr(state, name)
            if trained[name]:
                model, reference = policy[name]
                batch, shares, parts = _scored(
                    config, examples[i], rollouts[i], advantages[i]
                )
                told = dict.fromkeys(free, 0.0)
                if watch and free:
                    told = measure(model, states[name].params, batch, reference)
                states[name], learned = improve(
                    model, parts, states[name], batch, shares, reference
                )
                told |= learned
                metrics |= {f"{name}_{k}": v for k, v in told.items()}
        return state.replace(step=state.step + 1, **states), metrics

    return update


def _scored(config: Config, examples, rollout: Rollout, advantage: np.ndarray):
    """What the gradient of one policy is taken of; see `update_batch`."""
    if config.reduce == "mean":
        advantage = advantage / rollout.completion_mask.sum(axis=1)
    return update_batch(
        examples,
        advantage.astype(np.float32),
        bucket(config.prompts.max_length),
        config.micro_batches,
    )


class Validator:
    """Perplexity of the gold response given the generated persona, on a fixed subset.

    Called with a state, it returns the state with the best policies kept up to date.
    """

    def __init__(self, config: Config, prompts, valid, persona_model, response_model):
        known = instances(valid)
        order = np.random.default_rng(config.seed).permutation(len(known))
        self.subset = [known[i] for i in order[: config.validation_instances or None]]
        self.prompts = prompts
        greedy = Decoding(config.prompts.max_persona_tokens)
        self._generate = Generator(
            persona_model, greedy, prompts.end_id, batch_size=64, bucket=128
        )
        self._persona_scorer = Scorer(persona_model, 32)
        # Its examples hold new personas each time: widths that fit them would, too.
        self._response_scorer = Scorer(response_model, 32, widths=0)
        self._persona_examples = [prompts.persona_example(i) for i in self.subset]
        self._name = config.name

    def __call__(self, state: ReinforceState):
        seen = self.measure(state.persona.params, state.response.params)
        last = {k: jnp.asarray(v, jnp.float32) for k, v in seen.items()}
        began = int(state.step) == 0
        better = bool(last["response_nll"] < state.best["nll"])
        best = state.best
        if better:
            best = best | {"nll": last["response_nll"], "step": jnp.array(state.step)}
        if better and not began:  # else the best ones are these
            now = {"persona": state.persona.params, "response": state.response.params}
            best = best | _copies(now)
        state = state.replace(
            best=best,
            failed=jnp.where(better, 0, state.failed + 1),
            first=last if began else state.first,
            last=last,
        )
        metrics = {f"valid_{k}": v for k, v in seen.items()}
        metrics |= {
            f"valid_{name}_ppl": np.exp(seen[f"{name}_nll"])
            for name in ("persona", "response")
        }
        told = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
        print(f"{self._name}: {told}", file=sys.stderr)
        return state, metrics

    def measure(self, persona_params, response_params) -> dict[str, float]:
        """NLL in nats per token of gold personas and gold responses; Distinct-2."""
        prompts, subset = self.prompts, self.subset
        rows = [prompts.persona_prompt(instance) for instance in subset]
        personas = self._generate(persona_params, rows)
        examples = [
            prompts.response_example(i, prompts.generated_persona(p.tokens))
            for i, p in zip(subset, personas, strict=True)
        ]
        response = self._response_scorer(response_params, examples)
        persona = self._persona_scorer(persona_params, self._persona_examples)
        return {
            "response_nll": mean_nll(response.values()),
            "persona_nll": mean_nll(persona.values()),
            "persona_distinct_2": distinct(
                [prompts.text(p.tokens) for p in personas], 2
            ),
        }


def initial_state(policies: Policies, tx) -> ReinforceState:
    """The supervised policies, not validated yet."""
    unknown = {name: jnp.full((), jnp.inf) for name in MEASURED}
    return ReinforceState(
        step=jnp.zeros((), jnp.int32),
        persona=TrainState.create(_copies(policies.persona_params), tx),
        response=TrainState.create(_copies(policies.response_params), tx),
        best={
            "persona": policies.persona_params,
            "response": policies.response_params,
            "nll": jnp.full((), jnp.inf),
            "step": jnp.zeros((), jnp.int32),
        },
        failed=jnp.zeros((), jnp.int32),
        first=unknown,
        last=unknown,
    )


def _copies(tree):
    """For one of two owners: an update donates its arrays."""
    return jax.tree.map(jnp.array, tree)


def finished(config: Config):
    """state -> why training should stop now; empty if it should not.

    Patience is the paper's early stopping. A collapse is told as one: perplexity far
    above where it started, or personas that have become all alike.
    """

    def reason(state: ReinforceState) -> str:
        first, last = (
            {k: float(v) for k, v in m.items()} for m in (state.first, state.last)
        )
        for name, factor in [("response", 1.5), ("persona", 4.0)]:
            before, after = (np.exp(m[f"{name}_nll"]) for m in (first, last))
            if not after <= factor * before:  # NaN, too
                return f"collapsed: {name} perplexity {before:.3g} -> {after:.3g}"
        before, after = first["persona_distinct_2"], last["persona_distinct_2"]
        if after < 0.25 * before:
            return f"collapsed: Distinct-2 of personas {before:.3g} -> {after:.3g}"
        if int(state.failed) >= config.patience:
            return f"no better for {config.patience} validations"
        return ""

    return reason
