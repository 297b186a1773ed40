"""How much each layer of a model suffers from quantization, and the bits that follow."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._arguments import concrete, integer
from ..hardware.profiles import HardwareProfile, profile_of
from ._allocate import BitAllocation, LayerSensitivity, Unit, allocate
from ._rule import MAX_BITS
from ._weights import WeightQuantizer, mean_squared_error

Apply: TypeAlias = Callable[[Any, Any], Any]
Select: TypeAlias = Callable[[str, jax.Array], bool]

_OP = "allocate_bits"


def allocate_bits(
    model: Sequence[LayerSensitivity] | Apply | Any,
    calibration_batches: Iterable[Any] | None = None,
    *,
    budget: float,
    unit: Unit = "bits",
    params: Any = None,
    min_bits: int = 1,
    max_bits: int | None = None,
    profile: HardwareProfile | str | None = None,
    select: Select | None = None,
    quantizer: WeightQuantizer | None = None,
    probes: int = 8,
    seed: int = 0,
    energy_per_step_fj: float = 50.0,
) -> BitAllocation:
    """Bits of each layer's weights, for the least expected error under a budget.

        minimize Σ_l g_l·D_l(b_l)     subject to   Σ_l n_l·b_l <= budget                   bits
                                      or           Σ_l n_l·energy_per_step·2^b_l <= budget    J

    with n_l weights in layer l, D_l their mean squared error at b_l bits and g_l the sensitivity
    that `measure_sensitivity` finds. Exact; layers count as independent.

    Args:
        model: one of
            a sequence of `LayerSensitivity`, which needs no batches;
            a function `apply(params, batch)` that returns outputs or losses per example;
            a Flax Linen module, with `params` its variables and batches its inputs;
            a Flax NNX module, with batches its inputs.
            Measure a model without converters of the weights (`weight_bits=None`): theirs come on
            top of the quantizer's. A module that draws noise draws the same for every batch.
        calibration_batches: for a model. For a module a tuple stands for its first entry.
        budget: bits of all weights, or J to convert each weight once.
        unit: "bits" or "energy".
        params: pytree of arrays.
        min_bits, max_bits: 1 to 16, for every layer. `max_bits` None: what the converters of the
            weights of `profile` have, at most 16; 8 without a profile.
        profile: the device, or the name of a preset.
        select: `select(name, leaf)` says whether an array of the parameters is a layer's weight;
            None: it is called "kernel" and has two axes or more.
        quantizer: whose error counts; None: `WeightQuantizer()`.
        probes, seed: see `measure_sensitivity`.
        energy_per_step_fj: Walden figure of merit of the converters, fJ per conversion step.

    Raises:
        TypeError: the model is none of these, or bits are not an int.
        ValueError: the budget does not pay for `min_bits` everywhere, a number is out of range, no
            layer is selected, or there is no batch.
    """
    min_bits = integer(_OP, "min_bits", min_bits, at_least=1, at_most=MAX_BITS)
    if max_bits is None:
        weight_bits = 8 if profile is None else profile_of(_OP, profile).converters.weight_bits
        max_bits = MAX_BITS if weight_bits is None else min(weight_bits, MAX_BITS)
    max_bits = integer(_OP, "max_bits", max_bits, at_least=1, at_most=MAX_BITS)
    if isinstance(model, Sequence):
        wrong = [type(v).__name__ for v in model if not isinstance(v, LayerSensitivity)]
        if wrong:
            raise TypeError(f"{_OP}: `model` holds a {wrong[0]}, expected LayerSensitivity")
        layers = list(model)
    else:
        apply, params = _function(model, params)
        layers = _measured(
            (_OP, "model"),
            apply,
            params,
            calibration_batches,
            max_bits=max_bits,
            select=select,
            quantizer=quantizer,
            probes=probes,
            seed=seed,
        )
    return allocate(
        layers,
        budget=budget,
        unit=unit,
        min_bits=min_bits,
        max_bits=max_bits,
        energy_per_step_fj=energy_per_step_fj,
    )


def measure_sensitivity(
    apply: Apply,
    params: Any,
    calibration_batches: Iterable[Any] | None,
    *,
    max_bits: int = 8,
    select: Select | None = None,
    quantizer: WeightQuantizer | None = None,
    probes: int = 8,
    seed: int = 0,
) -> list[LayerSensitivity]:
    """Sensitivity of the outputs to the weights of each layer, by random gradients.

    An error δ of the weights, independent and of mean square D, moves the outputs y by J·δ. To
    first order their mean squared error is

        E‖J·δ‖²/m = g·D        g = ‖J‖²_F/m = E_v ‖∂(v·y)/∂W‖²/m        m outputs, v of ±1

    (Hutchinson's estimator), so that one backward pass per batch and probe serves all layers. With
    losses per example as y, g is the empirical Fisher information of the layer.

    Args:
        apply: `apply(params, batch)`, a pytree of floats; runs under `jax.jit`.
        params: pytree of arrays.
        calibration_batches: at least one; all weigh the same.
        max_bits: 1 to 16; errors are measured for 1 bit and up to this.
        select, quantizer: as in `allocate_bits`.
        probes: random vectors per batch. The relative error of g is at most √(2/probes) for one
            batch and one output, and falls with the number of both.
        seed: of the random vectors.

    Returns:
        One entry for each layer, in the order of the parameters.
    """
    return _measured(
        ("measure_sensitivity", "apply"),
        apply,
        params,
        calibration_batches,
        max_bits=max_bits,
        select=select,
        quantizer=quantizer,
        probes=probes,
        seed=seed,
    )


def _measured(
    named: tuple[str, str],
    apply: Apply,
    params: Any,
    calibration_batches: Iterable[Any] | None,
    *,
    max_bits: int,
    select: Select | None,
    quantizer: WeightQuantizer | None,
    probes: int,
    seed: int,
) -> list[LayerSensitivity]:
    """`measure_sensitivity` for the function that is called so, and its argument for the model."""
    op, model = named
    max_bits = integer(op, "max_bits", max_bits, at_least=1, at_most=MAX_BITS)
    probes = integer(op, "probes", probes, at_least=1, at_most=1 << 20)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    chosen: dict[str, int] = {}
    for i, (path, leaf) in enumerate(leaves):
        keys = [_key(entry) for entry in path]
        name = "/".join(keys)
        if _is_kernel(name, leaf) if select is None else select(name, leaf):
            chosen[_layer_name(keys)] = i
    if not chosen:
        names = ", ".join("/".join(_key(entry) for entry in path) for path, _ in leaves) or "none"
        raise ValueError(f"{op}: no array of `params` is a layer's weight, got {names}")
    weights = {name: leaves[i][1] for name, i in chosen.items()}
    if calibration_batches is None:
        raise ValueError(f"{op}: `calibration_batches` is None, expected at least one batch")

    @jax.jit
    def squared_gradients(weights: dict[str, jax.Array], batch: Any, key: jax.Array) -> Any:
        def outputs(weights: dict[str, jax.Array]) -> jax.Array:
            values = [leaf for _, leaf in leaves]
            for name, i in chosen.items():
                values[i] = weights[name]
            y = apply(jax.tree_util.tree_unflatten(treedef, values), batch)
            return jnp.concatenate([jnp.ravel(v) for v in jax.tree.leaves(y)])

        y, pull = jax.vjp(outputs, weights)

        def probe(key: jax.Array) -> Any:
            (gradient,) = pull(jax.random.rademacher(key, y.shape, y.dtype))
            return jax.tree.map(lambda g: jnp.sum(jnp.square(g)) / np.float32(y.size), gradient)

        squares = jax.lax.map(probe, jax.random.split(key, probes))
        return jax.tree.map(jnp.mean, squares)

    key = jax.random.key(seed)
    totals = dict.fromkeys(chosen, 0.0)
    count = 0
    for batch in calibration_batches:
        squares = squared_gradients(weights, batch, jax.random.fold_in(key, count))
        totals = {name: total + float(squares[name]) for name, total in totals.items()}
        count += 1
    if not count:
        raise ValueError(f"{op}: `calibration_batches` is empty, expected at least one batch")

    q = WeightQuantizer() if quantizer is None else quantizer
    found = []
    for name, leaf in weights.items():
        gain = totals[name] / count
        if not math.isfinite(gain):
            raise ValueError(
                f"{op}: the squared gradients of {name!r} on `calibration_batches` are {gain}, "
                f"expected a `{model}` whose outputs are finite, and at least one output"
            )
        w = concrete(op, f"params[{name!r}]", leaf)
        # In f64, which holds the squares of all weights: the f32 of `params.mse` does not.
        errors = tuple(
            mean_squared_error(w, q.calibrate(w, bits=b)) for b in range(1, max_bits + 1)
        )
        found.append(LayerSensitivity(name=name, size=w.size, gain=gain, distortion=errors))
    return found


def _function(model: Any, params: Any) -> tuple[Apply, Any]:
    """The model as a function of its parameters and a batch, and the parameters."""
    # A model of a Flax module means that Flax is imported; it is optional otherwise.
    linen, nnx = sys.modules.get("flax.linen"), sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(model, nnx.Module):
        graph, state, rest = nnx.split(model, nnx.Param, ...)

        def of_nnx(pure: Any, batch: Any) -> Any:
            # Copies, whose variables belong to the trace that this runs under.
            filled, others = jax.tree.map(lambda leaf: leaf, (state, rest))
            nnx.replace_by_pure_dict(filled, pure)
            return nnx.merge(graph, filled, others)(_inputs(batch))

        return of_nnx, nnx.to_pure_dict(state)
    if params is None:
        raise TypeError(
            f"{_OP}: `params` is None for a `model` of type {type(model).__name__}, expected the "
            "arrays that the model is a function of"
        )
    if linen is not None and isinstance(model, linen.Module):
        rngs = {"noise": jax.random.key(0)}
        return lambda variables, batch: model.apply(variables, _inputs(batch), rngs=rngs), params
    if not callable(model):
        raise TypeError(
            f"{_OP}: `model` is {type(model).__name__}, expected LayerSensitivity entries, a "
            "function or a Flax module"
        )
    return model, params


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) else batch


def _key(entry: Any) -> str:
    """What a key of a pytree path is called."""
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _is_kernel(name: str, leaf: Any) -> bool:
    return name.rpartition("/")[2] == "kernel" and np.ndim(leaf) >= 2


def _layer_name(keys: list[str]) -> str:
    """The path without the collection in front and the "kernel" at its end."""
    keys = keys[1:] if len(keys) > 1 and keys[0] == "params" else keys
    keys = keys[:-1] if len(keys) > 1 and keys[-1] == "kernel" else keys
    return "/".join(keys)
