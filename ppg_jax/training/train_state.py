"""Parameters, optimizer state and step; optimizers; a name for a set of weights."""

import dataclasses
import functools
import hashlib

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppg_jax.errors import UserError

SCHEDULES = ("constant", "linear", "cosine")


@flax.struct.dataclass
class TrainState:
    """All that training changes.  Random keys and data order derive from `step`."""

    step: jax.Array  # int32 scalar; optimizer updates done
    params: dict
    opt_state: optax.OptState

    @classmethod
    def create(cls, params, tx: optax.GradientTransformation) -> "TrainState":
        return cls(jnp.zeros((), jnp.int32), params, tx.init(params))

    def apply_gradients(self, grads, tx: optax.GradientTransformation) -> "TrainState":
        """One optimizer update."""
        updates, opt_state = tx.update(grads, self.opt_state, self.params)
        params = optax.apply_updates(self.params, updates)
        return TrainState(self.step + 1, params, opt_state)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam (Kingma and Ba, 2015), with weight decay decoupled where there is any.

    `schedule` is what follows the linear warm-up: constant, or down to a rate of 0 that
    comes after the last update, which still has a little. clip_norm 0 is off.
    """

    learning_rate: float = 5e-4  # the highest, after the warm-up
    b1: float = 0.9  # decay of the mean of the gradients
    b2: float = 0.999  # of the mean of their squares
    eps: float = 1e-8  # added to the root of the latter
    weight_decay: float = 0.0  # 0 is off
    warmup_steps: int = 0  # updates in which the rate rises from 0
    schedule: str = "constant"  # constant, linear or cosine
    clip_norm: float = 0.0  # the greatest norm of a gradient

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r} is none of {SCHEDULES}.")
        allowed = {
            "learning_rate": (
                0 < self.learning_rate < np.inf,
                "more than 0 and finite",
            ),
            "b1": (0 <= self.b1 < 1, "from 0 to less than 1"),
            "b2": (0 <= self.b2 < 1, "from 0 to less than 1"),
            "eps": (0 < self.eps < np.inf, "more than 0 and finite"),
            "weight_decay": (0 <= self.weight_decay < np.inf, "0 or more and finite"),
            "warmup_steps": (0 <= self.warmup_steps < 2**31, "0 or more, below 2^31"),
            "clip_norm": (0 <= self.clip_norm < np.inf, "0 (off) or more and finite"),
        }
        for name, (is_allowed, expected) in allowed.items():
            if not is_allowed:  # NaN never is
                told = f"{name}={getattr(self, name)} must be {expected}."
                raise ValueError(told)


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """step -> learning rate, over a run of `steps` updates."""
    if steps >= 2**31:  # which JAX counts them with
        raise UserError(f"{steps:.3g} updates are too many; lower epochs or updates.")
    peak = config.learning_rate
    rest = max(steps - config.warmup_steps, 1)
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
    }[config.schedule]
    # Starts above zero: a first step that changes nothing would be wasted.
    warmup = optax.linear_schedule(
        peak / (config.warmup_steps + 1), peak, max(config.warmup_steps, 1)
    )
    return optax.join_schedules([warmup, after], [config.warmup_steps])


@functools.cache
def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The transformation for a run of `steps` updates; one for all runs of that form,
    which then share what is compiled.

    Weight decay leaves biases, norms and embeddings of one axis alone.
    """
    adam = optax.adamw(
        learning_rate_schedule(config, steps),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )
    if not config.clip_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam)


def params_sha256(params) -> str:
    """A name for these weights: SHA-256 over paths, types, shapes and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        header = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n"
        digest.update(header.encode())
        # A view: `tobytes` would copy each leaf. hashlib knows no bfloat16.
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def accumulate(part_of, batch, rng, parts: int):
    """The sum of part_of(part, key) over `parts` equal parts of the batch's rows, every
    `parts`-th one each."""
    if parts == 1:
        return part_of(batch, rng)

    def cut(array):
        rows = array.shape[0] // parts
        return array.reshape(rows, parts, *array.shape[1:]).swapaxes(0, 1)

    batches = jax.tree.map(cut, batch)
    rngs = jax.random.split(rng, parts)
    first = jax.tree.map(lambda a: a[0], batches)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(part_of, first, rngs[0])
    )

    def add(total, each):
        return jax.tree.map(jnp.add, total, part_of(*each)), None

    return jax.lax.scan(add, zeros, (batches, rngs))[0]
