"""The linear layer, with a backward pass that suits XLA's compiler for CPUs, and the
activation behind it.

Axes: R rows (all leading axes), D inputs, F outputs.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ppg_jax.models.product import product
from ppg_jax.models.quantize import linear


class Dense(nn.Module):
    """x W + b: `flax.linen.Dense`, its parameters, its results and its gradients."""

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @property
    def rounded(self) -> bool:
        """Whether its weights are stored in less than float32 (`models.quantize`)."""
        weight = self.get_variable("params", "weight")
        return weight is not None and weight.dtype != jnp.float32

    @nn.compact
    def __call__(self, x):
        """[..., D] -> [..., F]."""
        if self.has_variable("params", "weight"):
            return _inferred(x, self.dtype, **self.variables["params"])
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return _affine(x.astype(self.dtype), kernel, bias)


def _inferred(x, dtype, weight, bias, scale=None):
    """`_affine` for inference alone, with the parameters of `models.quantize`."""
    y = linear(x.reshape(-1, x.shape[-1]), weight, scale) + bias[None]
    return y.reshape(*x.shape[:-1], y.shape[-1]).astype(dtype)


@jax.custom_vjp
def _affine(x, kernel, bias):
    """Gradients of the kernel and the bias keep the float32 that they are summed in."""
    rows = x.reshape(-1, x.shape[-1])
    y = product("rd,df->rf", rows, kernel.astype(x.dtype), x.dtype)
    y = y + bias.astype(x.dtype)[None]
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _forward(x, kernel, bias):
    return _affine(x, kernel, bias), (x, kernel, bias)


def _backward(residuals, dy):
    x, kernel, bias = residuals
    dy = jax.lax.platform_dependent(
        dy, cpu=jax.lax.optimization_barrier, default=lambda dy: dy
    )
    rows, columns = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    dx = product("rf,df->rd", columns, kernel.astype(x.dtype), x.dtype)
    total = jax.lax.platform_dependent(columns, cpu=_sums_by_product, default=_sums)
    return (
        dx.reshape(x.shape),
        product("rd,rf->df", rows, columns, kernel.dtype),
        total.astype(bias.dtype),
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
