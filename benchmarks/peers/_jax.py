"""The signal chain in plain JAX: jnp.matmul, jax.random.normal, and straight-through quantizers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program
from .._problem import Operands, Problem


def forward(problem: Problem) -> Program:
    """The output."""
    return forward_program(_chain(problem), problem)


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    return step_program(_chain(problem), problem)


def normals(rows: int, columns: int) -> Program:
    """Standard normal numbers, f32[rows, columns]."""
    return normals_program(lambda key: jax.random.normal(key, (rows, columns), np.float32))


def forward_program(chain: Callable[..., jax.Array], problem: Operands) -> Program:
    """That of a function of x, w, the noise level and a key."""
    return bound(jax.jit(chain), problem)


def step_program(chain: Callable[..., jax.Array], problem: Operands) -> Program:
    """The same with its gradients."""

    def run(x: jax.Array, w: jax.Array, g: jax.Array, relative: jax.Array, key: jax.Array) -> Any:
        y, pull = jax.vjp(lambda x, w: chain(x, w, relative, key), x, w)
        return y, *pull(g)

    return bound(jax.jit(run), problem, cotangent=True)


def bound(compiled: Callable[..., Any], problem: Operands, *, cotangent: bool = False) -> Program:
    """A program of a jitted function of x, w, the cotangent if asked, the noise level and a key."""
    operands = arrays(problem, cotangent=cotangent)
    key = jax.random.key(0)

    def bind(level: float) -> Callable[[], Any]:
        relative = jnp.float32(level)
        return lambda: jax.block_until_ready(compiled(*operands, relative, key))

    return Program(bind, lambda result: tuple(map(np.asarray, jax.tree.leaves(result))))


def arrays(problem: Operands, *, cotangent: bool) -> tuple[jax.Array, ...]:
    """x, w, and g if asked, on the device."""
    parts = (problem.x, problem.w, problem.g)
    return tuple(map(jnp.asarray, parts if cotangent else parts[:2]))


def normals_program(draw: Callable[[jax.Array], jax.Array]) -> Program:
    """A program that draws with a key."""
    compiled, key = jax.jit(draw), jax.random.key(0)
    return Program(
        lambda _: lambda: jax.block_until_ready(compiled(key)),
        lambda result: (np.asarray(result),),
    )


def converter(bits: int, full_scale: Any) -> Callable[[jax.Array], jax.Array]:
    """A straight-through quantizer, and the identity for 0 bits.

    The full scale is one number, or one for each of the last axis.
    """
    if not bits:
        return lambda v: v
    full_scale = jnp.asarray(full_scale, np.float32).reshape(1, -1)
    largest = float(2 ** (bits - 1) - 1)

    def convert(v: jax.Array) -> jax.Array:
        flat: Any = _quantize(largest, v.reshape(-1, v.shape[-1]), full_scale)
        return flat.reshape(v.shape)

    return convert


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _quantize(largest: float, v: jax.Array, full_scale: jax.Array) -> jax.Array:
    s = full_scale / largest
    return jnp.clip(jnp.round(v / s), -largest, largest) * s


def _quantize_fwd(largest: float, v: jax.Array, full_scale: jax.Array) -> Any:
    return _quantize(largest, v, full_scale), (v, full_scale)


def _quantize_bwd(largest: float, saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """That of the full scale is the learned step size; XLA leaves it out where no one asks."""
    v, full_scale = saved
    inside = jnp.abs(v) <= full_scale
    ratio = v / full_scale
    rounding = jnp.round(ratio * largest) / largest - ratio
    by_full_scale = g * jnp.where(inside, rounding, jnp.sign(v))
    axes = 0 if full_scale.size > 1 else (0, 1)
    return (
        jnp.where(inside, g, np.float32(0)),
        jnp.sum(by_full_scale, axis=axes, keepdims=True),
    )


_quantize.defvjp(_quantize_fwd, _quantize_bwd)


def noisy(y: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
    """`y + relative·|y|·ε`; as ε is symmetric, y·ε has the law of |y|·ε."""
    return y * (1 + relative * jax.random.normal(key, y.shape, y.dtype))


def _chain(problem: Problem) -> Callable[..., jax.Array]:
    workload = problem.workload
    x_dac = converter(workload.dac_bits, problem.x_full_scale)
    w_dac = converter(workload.weight_bits, problem.w_full_scale)
    adc = converter(workload.adc_bits, problem.y_full_scale)

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        y = jnp.matmul(x_dac(x), w_dac(w))
        return adc(noisy(y, relative, key))

    return chain
