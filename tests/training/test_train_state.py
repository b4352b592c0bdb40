"""The optimizer is the Adam that others have, and the name of weights is exact."""

import copy
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.models.starts import initial_params
from ppg_jax.training.train_state import (
    OptimizerConfig,
    TrainState,
    accumulate,
    learning_rate_schedule,
    make_optimizer,
    params_sha256,
)

RNG = np.random.default_rng(0)
STEPS = 20
PARAMS = {
    "kernel": RNG.normal(0, 1, (4, 3)).astype(np.float32),
    "bias": RNG.normal(0, 1, 3).astype(np.float32),
}
# The first steps are clipped, the last are not.
GRADS = [
    {k: RNG.normal(0, 3 / n, p.shape).astype(np.float32) for k, p in PARAMS.items()}
    for n in range(1, STEPS + 1)
]
OPTIMIZERS = {
    "adam": {},
    "weight decay": {"weight_decay": 0.1},
    "clip": {"clip_norm": 1.0},
    "all": {
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "warmup_steps": 5,
        "schedule": "cosine",
        "b1": 0.8,
        "b2": 0.95,
        "eps": 1e-6,
    },
}


def trajectory(config: OptimizerConfig):
    """The parameters after each step."""
    tx = make_optimizer(config, STEPS)
    state = TrainState.create(jax.tree.map(jnp.asarray, PARAMS), tx)
    step = jax.jit(lambda state, grads: state.apply_gradients(grads, tx))
    for grads in GRADS:
        state = step(state, grads)
        yield state.params
    assert int(state.step) == STEPS


def torch_trajectory(config: OptimizerConfig):
    torch = pytest.importorskip("torch", reason="torch is the reference; extra: parity")
    params = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in PARAMS.items()}
    groups = [
        {"params": [params["kernel"]], "weight_decay": config.weight_decay},
        {"params": [params["bias"]], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    optimizer = adam(groups, betas=(config.b1, config.b2), eps=config.eps)
    schedule = learning_rate_schedule(config, STEPS)
    for step, grads in enumerate(GRADS):
        for group in optimizer.param_groups:
            group["lr"] = float(schedule(step))
        for name, parameter in params.items():
            parameter.grad = torch.tensor(grads[name])
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(params.values(), config.clip_norm)
        optimizer.step()
        yield {k: v.detach().numpy().copy() for k, v in params.items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_adam_is_torchs_over_twenty_steps(name):
    config = OptimizerConfig(**{"learning_rate": 1e-2} | OPTIMIZERS[name])
    theirs = torch_trajectory(config)
    for ours, expected in zip(trajectory(config), theirs, strict=True):
        for leaf in PARAMS:
            np.testing.assert_allclose(ours[leaf], expected[leaf], atol=5e-6)


def rates(steps: int, **options) -> list[float]:
    config = OptimizerConfig(learning_rate=2.0, **options)
    schedule = learning_rate_schedule(config, steps)
    return [float(schedule(step)) for step in range(steps + 1)]


def test_a_constant_rate_is_constant_from_the_first_step():
    assert rates(4) == [2.0] * 5


def test_the_warm_up_rises_in_equal_parts_and_starts_above_zero():
    assert rates(5, warmup_steps=3) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_linear_and_cosine_fall_from_the_peak_to_zero_after_the_last_step():
    assert rates(6, warmup_steps=2, schedule="linear") == pytest.approx(
        [2 / 3, 4 / 3, 2.0, 1.5, 1.0, 0.5, 0.0]
    )
    cosine = [1 + math.cos(math.pi * n / 4) for n in range(5)]
    assert rates(4, schedule="cosine") == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_shorter_than_its_warm_up_has_a_rate(steps):
    assert all(r > 0 for r in rates(steps, warmup_steps=5, schedule="linear"))


@pytest.mark.parametrize("wrong", [{"schedule": "sine"}, {"learning_rate": 0.0}])
def test_a_wrong_optimizer_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimizerConfig(**wrong)


def test_the_name_of_weights_changes_with_any_bit_path_shape_or_type():
    params = {"a": {"kernel": np.arange(6, dtype=np.float32)}, "b": np.zeros(2, "f4")}
    bit = copy.deepcopy(params)
    bit["a"]["kernel"].view(np.uint32)[3] ^= 1
    sign = {**params, "b": -params["b"]}
    shape = {**params, "a": {"kernel": params["a"]["kernel"].reshape(2, 3)}}
    path = {"a": {"bias": params["a"]["kernel"]}, "b": params["b"]}
    dtype = {**params, "b": params["b"].view(np.int32)}
    names = [params_sha256(p) for p in (params, bit, sign, shape, path, dtype)]
    assert len(set(names)) == len(names)


def test_the_name_of_weights_knows_nothing_but_the_weights():
    params = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, "f4")}
    same = {"b": jnp.ones(2), "a": np.asfortranarray(params["a"])}
    assert params_sha256(same) == params_sha256(params)


def test_the_name_of_weights_is_the_same_in_every_version():
    """Runs and published results are known by it."""
    params = {
        "bfloat16": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
        "bool": np.array([True, False]),
        "none": np.zeros((0, 3), np.float32),
        "scalar": jnp.int32(7),
        "strided": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    }
    name = "07adde5a02c564b5e3725e3232d23d9aa6032674bd4e14855bb862d63657812a"
    assert params_sha256(params) == name


def test_accumulating_parts_sums_them_and_gives_each_its_own_key():
    batch = {"x": jnp.arange(12.0).reshape(6, 2)}

    def part_of(part, rng):
        return jnp.sum(part["x"] ** 2), jax.random.uniform(rng)

    total, _ = accumulate(part_of, batch, jax.random.key(0), 1)
    for parts in (2, 3, 6):
        split, chance = accumulate(part_of, batch, jax.random.key(0), parts)
        np.testing.assert_allclose(split, total)
        rngs = jax.random.split(jax.random.key(0), parts)
        expected = sum(float(jax.random.uniform(rng)) for rng in rngs)
        np.testing.assert_allclose(chance, expected, rtol=1e-6)


def test_a_part_is_every_so_manyth_row():
    """Of rows on four devices, two each, each device has one row of both parts."""
    seen = []

    def part_of(part, rng):
        jax.debug.callback(lambda rows: seen.append(rows.tolist()), part, ordered=True)
        return jnp.sum(part)

    accumulate(part_of, jnp.arange(8), jax.random.key(0), 2)
    jax.effects_barrier()
    assert seen == [[0, 2, 4, 6], [1, 3, 5, 7]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_initial_parameters_are_those_of_the_seed(dtype):
    model = nn.Embed(16, 3)
    for seed in (0, 1):
        params = initial_params(model.clone(dtype=jnp.dtype(dtype)), seed)["embedding"]
        drawn = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, 8), jnp.int32))
        np.testing.assert_array_equal(params, drawn["params"]["embedding"])
        assert params.dtype == jnp.float32


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": float("inf")},
        {"learning_rate": float("nan")},
        {"eps": 0.0},
        {"eps": -1.0},
        {"b1": 2.0},
        {"b2": 1.0},
        {"clip_norm": -1.0},
        {"weight_decay": float("nan")},
        {"warmup_steps": -1},
        {"warmup_steps": 10**10},
    ],
    ids=str,
)
def test_a_setting_that_would_make_nan_is_refused_by_name(wrong):
    [name] = wrong
    with pytest.raises(ValueError, match=f"^{name}=.* must be "):
        OptimizerConfig(**wrong)
