"""The gradient of the signal chain of complex numbers: that of their parts, through the noise.

With y the output before noise, y' after it, h = g·[y'] part by part, and g, dz, dx, dw and dbias
the derivatives by real and imaginary parts:

    cotangent  = (re h·ε_re + im h·ε_im)/(√2·σ)                       0 where σ = 0
    dz         = h + cotangent · (shot²·y/(2·|y|) + relative²·y)
    dx_q       = dz · w_qᴴ + x_q · weight² · Σ_n cotangent            dw_q = x_qᴴ · dz

and the rest is as in `optical_matmul_grad`, whose attributes it has; `residual` is "pre_noise". The
products are those of floats: `grad_precision` rounds parts, not numbers.
"""

from __future__ import annotations

from dataclasses import replace

import jax

from . import _tiles
from ._chain import operand_types
from ._complex import at_output, fold, in_floats
from ._op import define
from ._partition import Axes
from ._signature import Signature, tensor
from .optical_matmul_grad import Attrs, Gradients, Operands, gradients, sum_of_shards


def _signature(attrs: Attrs) -> Signature:
    if attrs.residual != "pre_noise":
        raise ValueError(
            f"complex_optical_matmul_grad: `residual` must be pre_noise, got {attrs.residual}"
        )
    draws = attrs.noisy or attrs.grad_precision == "int8"
    given = {"x_full_scale": tensor("f32", "m?"), "w_full_scale": tensor("f32", "n?")}
    forward = {**operand_types(attrs, draws=draws, number="c64")._asdict(), **given}
    del forward["bias"]
    g, y = tensor("c64", "m", "n"), tensor("c64", *_tiles.saved_dims(attrs))
    results = Gradients(
        x=forward["x"],
        w=forward["w"],
        bias=tensor("c64", "n"),
        x_full_scale=tensor("f32", "m"),
        w_full_scale=tensor("f32", "n"),
        y_full_scale=tensor("f32", "n"),
        noise=tensor("f32", "m", 4),
    )
    # σ holds ‖x_q‖², which no shard of the depth knows.
    whole = frozenset("k") if attrs.noisy else frozenset[str]()
    operands = Operands(g=g, saved=y, **forward)
    return Signature(operands, results, whole=whole, derived=_tiles.derived(attrs))


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> Gradients[jax.Array]:
    return fold(attrs, gradients(*in_floats(attrs, operands), at_output))


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> Gradients[jax.Array]:
    return sum_of_shards(axes, Gradients(*op(attrs, operands)))


op = define(
    "complex_optical_matmul_grad",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    smooth=lambda attrs: replace(attrs, grad_precision="float32"),
)
