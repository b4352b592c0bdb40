"""The contestant "ppg_jax": each suite's work, done as a user of this package does it.

Each class is a `ppg_jax.benchmark.race.Work`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.benchmark.workload import OPTIMIZER, Job, Workload, in_order, padded
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.generation import row_keys
from ppg_jax.inference.pipeline import Pipeline, PipelineConfig, Request
from ppg_jax.inference.scoring import Scorer
from ppg_jax.models import pretrained
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
        tx = make_optimizer(OPTIMIZER, 1)
        step = supervised.make_train_step(model, tx, job.parts, job.seed, job.dropout)
        batches = [part.batch for (part,) in work.updates("dialogue")]
        super().__init__(
            job, TrainState.create(params, tx), lambda s, b: step(s, b, {}), batches
        )
        self._examples = work.dialogue_examples()
        self._scorer = Scorer(model, batch_size=job.batch_size)

    def check(self):
        return {"nll": in_order(self._scorer(self._state.params, self._examples))}


class Generate:
    """Context -> partner persona -> response."""

    def __init__(self, job: Job):
        work = Workload(job)
        generator = _load(job.generator, job)

        def pipeline(**options):
            config = PipelineConfig(
                batch_size=job.batch_size, weights=job.weights, **options
            )
            return Pipeline(work.prompts, generator, generator, config)

        self._requests = [
            Request(i.self_persona, i.context) for i in work.first_instances()
        ]
        self._make = pipeline
        self._pipeline = pipeline()
        if job.top_p:
            self._pipeline = pipeline(temperature=1.0, top_p=job.top_p)
        self._limits = work.prompts.config

    def check(self):
        replies = self._make().replies(self._requests)
        # As the persona generator wrote it: without an end token if it found no end.
        personas = [r.partner_persona.tokens for r in replies]
        limits = self._limits
        return {
            "persona": padded(personas, limits.max_persona_tokens),
            "response": padded([r.tokens for r in replies], limits.max_response_tokens),
        }

    def run(self):
        self._pipeline.replies(self._requests)


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
        model, params = _load(job.generator, job)
        self._critic = Critic(*pretrained.load(job.critic)[:2], work.pair_encoder())
        self._policies = Policies(*[Policy(model, params, {})] * 2)
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
        state = self._state
        rollouts = jax.device_get(
            sample(state.persona.params, state.response.params, prompted, keys)
        )
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
        step = critic.make_train_step(self._model, tx, job.seed, job.dropout)
        state = TrainState.create(params, tx)
        super().__init__(job, state, step, work.pair_batches())
        self._texts, self._encoder = work.pair_texts(), work.pair_encoder()

    def check(self):
        judge = Critic(self._model, self._state.params, self._encoder)
        return {"critic_score": judge.score(*self._texts)}


def _load(folder: str, job: Job):
    """(model, params) of a model folder, of the job's compute type.

    bfloat16 on a CPU is what pays there: activations stay float32, and products round
    what they multiply (`ppg_jax.models.product`).
    """
    dtype = job.dtype
    if dtype == "bfloat16" and jax.default_backend() == "cpu":
        jax.config.update("jax_default_matmul_precision", "bfloat16")
        dtype = "float32"
    return pretrained.load(folder, dtype=jnp.dtype(dtype))[:2]
