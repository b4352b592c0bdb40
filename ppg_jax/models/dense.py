"""The linear layer, with a backward pass that suits XLA's compiler for CPUs.

Axes: R rows (all leading axes), D inputs, F outputs.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dense(nn.Module):
    """x W + b: `flax.linen.Dense`, its parameters, its results and its gradients."""

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        """[..., D] -> [..., F]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        return _affine(x, kernel, bias)


@jax.custom_vjp
def _affine(x, kernel, bias):
    return x @ kernel + jnp.expand_dims(bias, range(x.ndim - 1))


def _forward(x, kernel, bias):
    return _affine(x, kernel, bias), (x, kernel)


def _backward(residuals, dy):
    x, kernel = residuals
    dy = jax.lax.platform_dependent(
        dy, cpu=jax.lax.optimization_barrier, default=lambda dy: dy
    )
    rows, columns = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    bias = jax.lax.platform_dependent(columns, cpu=_sums_by_product, default=_sums)
    return dy @ kernel.T, rows.T @ columns, bias


_affine.defvjp(_forward, _backward)


# XLA for CPUs computes what dy is made of once more for a sum over its rows, and walks
# down its columns one by one. The barrier keeps dy, and a product with ones sums it in
# the order of the memory: a tenth off forward and backward (docs/performance.md).
def _sums_by_product(columns):
    """[R, F] -> [F]."""
    ones = jnp.ones((1, columns.shape[0]), columns.dtype)
    total = jnp.matmul(ones, columns, preferred_element_type=jnp.float32)
    return total[0].astype(columns.dtype)


def _sums(columns):
    """[R, F] -> [F]."""
    return columns.sum(axis=0)
