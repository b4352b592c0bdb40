"""The linear layer, with a backward pass that suits XLA's compiler for CPUs, and the
activation behind it.

Axes: R rows (all leading axes), D inputs, F outputs, K the rank of an adapter.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.models.product import einsum, product
from ppg_jax.models.quantize import linear

LEAVES = ("lora_a", "lora_b")  # of an adapter: [D, rank], [rank, F]


class Dense(nn.Module):
    """x W + b: `flax.linen.Dense`, its parameters, its results and its gradients.

    With an adapter in its parameters (`models.adapters`), x W + b + (x A) B.
    """

    features: int
    dtype: jnp.dtype = jnp.float32
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @property
    def rounded(self) -> bool:
        """Whether its weights are stored in less than float32 (`models.quantize`)."""
        weight = self.get_variable("params", "weight")
        return weight is not None and weight.dtype != jnp.float32

    @nn.compact
    def __call__(self, x):
        """[..., D] -> [..., F]."""
        rows = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        y = self._product(rows) + self._adapted(rows)
        return y.reshape(*x.shape[:-1], self.features).astype(self.dtype)

    def _product(self, rows):
        if self.has_variable("params", "weight"):
            given = self.variables["params"]
            y = linear(rows, given["weight"], given.get("scale"))
            return y + given["bias"][None] if self.use_bias else y
        shape = (rows.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return _affine(rows, kernel, bias)

    def _adapted(self, rows):
        """What the adapter adds, 0 without one."""
        if not self.has_variable("params", "lora_a"):
            return 0
        a, b = (self.get_variable("params", n).astype(rows.dtype) for n in LEAVES)
        return einsum("rk,kf->rf", einsum("rd,dk->rk", rows, a, rows.dtype), b)


@jax.custom_vjp
def _affine(rows, kernel, bias):
    """[R, D], [D, F], [F] or None -> [R, F].

    Gradients of the kernel and the bias keep the float32 that they are summed in.
    """
    y = product("rd,df->rf", rows, kernel.astype(rows.dtype), rows.dtype)
    return y if bias is None else y + bias.astype(rows.dtype)[None]


def _forward(x, kernel, bias):
    return _affine(x, kernel, bias), (x, kernel, bias)


def _backward(residuals, dy):
    rows, kernel, bias = residuals
    dy = jax.lax.platform_dependent(
        dy, cpu=jax.lax.optimization_barrier, default=lambda dy: dy
    )
    total = None
    if bias is not None:
        total = jax.lax.platform_dependent(dy, cpu=_sums_by_product, default=_sums)
        total = total.astype(bias.dtype)
    return (
        product("rf,df->rd", dy, kernel.astype(rows.dtype), rows.dtype),
        product("rd,rf->df", rows, dy, kernel.dtype),
        total,
    )


_affine.defvjp(_forward, _backward)


# XLA for CPUs computes what dy is made of once more for a sum over its rows, and walks
# down its columns one by one. The barrier keeps dy, and a product with ones sums it in
# the order of the memory: a tenth off forward and backward (docs/performance.md).
def _sums_by_product(columns):
    """[R, F] -> float32 [F]."""
    ones = jnp.ones((1, columns.shape[0]), columns.dtype)
    return jnp.matmul(ones, columns, preferred_element_type=jnp.float32)[0]


def _sums(columns):
    """[R, F] -> float32 [F]."""
    return columns.sum(axis=0, dtype=jnp.float32)


def gelu(x, approximate: bool):
    """`flax.linen.gelu`, whose backward pass needs x alone.

    XLA would keep up to two more arrays of its size from the forward pass, a fifth of
    what a training step of DistilBERT needs besides its state.
    """
    return jax.checkpoint(functools.partial(nn.gelu, approximate=approximate))(x)


def swiglu(gate, up):
    """silu(gate) * up, whose backward pass needs the two alone."""
    return jax.checkpoint(lambda gate, up: nn.silu(gate) * up)(gate, up)


def require_sizes(config, *names: str) -> None:
    """Raises ValueError unless these fields are whole numbers of 1 or more."""
    for name in names:
        size = getattr(config, name)
        if not (isinstance(size, int) and size > 0):
            told = f"{name}={size} must be a whole number of 1 or more."
            raise ValueError(told)
