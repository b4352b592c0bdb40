"""The contestant "ppg_jax": each suite's work, done as a user of this package does it.

Each class is a `ppg_jax.benchmark.race.Work`.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.benchmark.workload import OPTIMIZER, Job, Workload, as_checks, in_order
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.generation import row_keys
from ppg_jax.inference.pipeline import Pipeline, PipelineConfig, Request
from ppg_jax.inference.scoring import Scorer
from ppg_jax.models import adapters, pretrained
from ppg_jax.models.quantize import quantize, ready
from ppg_jax.rl.rewards import advantages_of
from ppg_jax.rl.rollouts import make_sampler, prompts_of
from ppg_jax.rl.update import Policies, Policy, make_update
from ppg_jax.rl.validation import initial_state
from ppg_jax.stages import critic, reinforce, supervised
from ppg_jax.training.train_state import TrainState, make_optimizer


class Score:
    """The log-likelihood of every target, as perplexity needs it."""

    def __init__(self, job: Job):
        work = Workload(job)
        model, self._params = _load(job.generator, job)
        self._examples = work.dialogue_examples()
        self._scorer = Scorer(model, batch_size=job.batch_size)

    def check(self):
        return {"nll": in_order(self._scorer(self._params, self._examples))}

    def run(self):
        self._scorer(self._params, self._examples)


class _Learner:
    """Takes each update of a lap."""

    def __init__(self, job: Job, state: TrainState, step, batches):
        self._job, self._state, self._step, self._batches = job, state, step, batches

    def run(self):
        losses = []
        for batch in self._batches:
            self._state, metrics = self._step(self._state, batch)
            losses.append(metrics["loss"])
        jax.block_until_ready(self._state)
        return None if self._job.dropout else np.array(losses, np.float64)


class Train(_Learner):
    """Updates of one generator, each over whole dialogues."""

    def __init__(self, job: Job):
        work = Workload(job)
        model, params = _load(job.generator, job)
        learned, base = adapters.split(params)
        del params
        # As `stages.supervised.train` keeps it.
        base = quantize(base, "float32", model.dtype) if base else base
        tx = make_optimizer(OPTIMIZER, 1)
        step = supervised.make_train_step(model, tx, job.parts, job.seed, job.dropout)
        batches = [part.batch for (part,) in work.updates("dialogue")]
        state = TrainState.create(learned, tx)
        super().__init__(job, state, lambda s, b: step(s, b, base), batches)
        self._base, self._examples = base, work.dialogue_examples()
        self._scorer = Scorer(model, batch_size=job.batch_size)

    def check(self):
        params = adapters.join(self._state.params, self._base)
        return {"nll": in_order(self._scorer(params, self._examples))}


class Generate:
    """Context -> partner persona -> response."""

    def __init__(self, job: Job):
        work = Workload(job)
        # As `Pipeline.load` opens them: adapters share their base.
        folders = job.adapters or job.answering
        generators = _pair(folders, job, lambda base: ready(base, job.weights))

        def pipeline(**options):
            config = PipelineConfig(
                batch_size=job.batch_size, weights=job.weights, **options
            )
            return Pipeline(work.prompts, *generators, config)

        self._requests = [
            Request(i.self_persona, i.context) for i in work.first_instances()
        ]
        self._make = pipeline
        self._pipeline = pipeline()
        if job.top_p:
            self._pipeline = pipeline(temperature=1.0, top_p=job.top_p)
        self._work = work

    def check(self):
        replies = self._make().replies(self._requests)
        personas = [r.partner_persona.tokens for r in replies]
        return as_checks(self._work, personas, [r.tokens for r in replies])

    def run(self):
        self._pipeline.replies(self._requests, seed=0)  # the same in each round


class Reinforce:
    """Updates of both generators: sample, judge, one Adam step each."""

    def __init__(self, job: Job):
        work = Workload(job)
        self._prompts, self._instances = work.prompts, work.reinforced_instances()
        self._config = reinforce.Config(
            prompts=job.prompts,
            batch_size=job.batch_size,
            micro_batches=job.parts,
            optimizer=OPTIMIZER,
        )
        self._critic = Critic(*pretrained.load(job.critic)[:2], work.pair_encoder())
        pair = _pair(job.answering, job)
        self._policies = Policies(*(Policy(m, *adapters.split(p)) for m, p in pair))
        del pair
        self._tx = make_optimizer(OPTIMIZER, 1)
        self._state = initial_state(self._policies, self._tx)
        self._sample, self._update = self._programs(self._config)

    def _programs(self, config: reinforce.Config):
        policies, end_id = self._policies, self._prompts.end_id
        models = policies.persona.model, policies.response.model
        sample = make_sampler(models, config.prompts, config.decodings, end_id)
        return sample, make_update(config.objective, policies, self._tx)

    def check(self):
        # Of a sign no score could be told.
        config = dataclasses.replace(self._config, temperature=0.0, reward="soft")
        sample, _ = self._programs(config)
        _, rollouts, judged = self._judged(config, sample, 0)
        lengths = [rollout.completion_mask.sum(axis=1) for rollout in rollouts]
        return {
            "persona": np.asarray(rollouts[0].completion),
            "response": np.asarray(rollouts[1].completion),
            "log_prob": np.stack([np.asarray(r.log_probs).sum(1) for r in rollouts]),
            "lengths": np.stack(lengths),
            "critic_score": (judged.advantages[0] + 1) / 2,
        }

    def run(self):
        for start in range(0, len(self._instances), self._config.batch_size):
            prompted, rollouts, judged = self._judged(self._config, self._sample, start)
            self._state, metrics = self._update(
                self._state, prompted, rollouts, judged.advantages, False
            )
        jax.block_until_ready((self._state, metrics))

    def _judged(self, config, sample, start: int):
        size = config.batch_size
        chosen = self._instances[start : start + size]
        prompted = prompts_of(self._prompts, chosen)
        keys = row_keys(config.seed, start + np.arange(size))
        persona = self._policies.persona.params(self._state.persona.params)
        response = self._policies.response.params(self._state.response.params)
        rollouts = jax.device_get(sample(persona, response, prompted, keys))
        judged = advantages_of(
            config.payment, self._critic, self._prompts, rollouts, chosen
        )
        return prompted, rollouts, judged


class CriticScore:
    """P(related) of pairs, from text."""

    def __init__(self, job: Job):
        work = Workload(job)
        self._texts = work.pair_texts()
        self._critic = Critic(*_load(job.critic, job), work.pair_encoder())

    def check(self):
        return {"critic_score": self._critic.score(*self._texts)}

    def run(self):
        self._critic.score(*self._texts)


class CriticTrain(_Learner):
    """Updates of the critic on balanced pairs."""

    def __init__(self, job: Job):
        work = Workload(job)
        self._model, params = _load(job.critic, job)
        tx = make_optimizer(OPTIMIZER, 1)
        made = critic.make_train_step(self._model, tx, job.seed, job.dropout)
        step = lambda state, batch: made(state, batch, {})  # noqa: E731
        state = TrainState.create(params, tx)
        super().__init__(job, state, step, work.pair_batches())
        self._texts, self._encoder = work.pair_texts(), work.pair_encoder()

    def check(self):
        judge = Critic(self._model, self._state.params, self._encoder)
        return {"critic_score": judge.score(*self._texts)}


def _pair(folders: Sequence[str], job: Job, prepare=lambda base: base) -> list[tuple]:
    """(model, params) of two folders; once, if they are one, and a base once, too.

    prepare: as in `pretrained.load`.
    """
    known = {"bases": {}, "prepare": prepare}
    made = {folder: _load(folder, job, **known) for folder in dict.fromkeys(folders)}
    return [made[folder] for folder in folders]


def _load(folder: str, job: Job, **known):
    """(model, params) of a model folder, of the job's compute type.

    bfloat16 on a CPU is what pays there: activations stay float32, and products round
    what they multiply (`ppg_jax.models.product`).
    """
    dtype = job.dtype
    if dtype == "bfloat16" and jax.default_backend() == "cpu":
        jax.config.update("jax_default_matmul_precision", "bfloat16")
        dtype = "float32"
    return pretrained.load(folder, dtype=jnp.dtype(dtype), **known)[:2]
