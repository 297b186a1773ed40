"""Checkpoints of electronic layers in optical models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core import meta, unfreeze

from ._variables import value_of

Model = TypeVar("Model", bound="Mapping[str, Any] | nnx.Module")

# What an optical layer has and an electronic one has not: it keeps its value.
_OPTICAL = {f"{signal}_{kind}" for signal in "xy" for kind in ("full_scale", "log_gain")}


def load_dense(variables: Any, model: Model) -> Model:
    """The optical `model` with the parameters of the same network of `nn.Dense` or `nnx.Linear`.

    ```python
    optical = layers.load_dense(dense_variables, optical_net.init(key, x))    # Linen
    layers.load_dense(dense_model, optical_model)                            # NNX, in place
    ```

    Parameters match by their names and shapes; so do all other variables, such as batch
    statistics. A Linen layer that has its name from its class matches by number,
    `Dense_0` for `OpticalDense_0`, where no layer of the model around it is called `Dense_…`
    itself. Ranges and learned factors on them keep the values in `model`: calibrate them next.

    Args:
        variables: what the electronic network was trained to. For Linen, its variables,
            {"params": ...}; for NNX, the module, its `nnx.State`, or that as a dict, as Orbax
            restores it.
        model: for Linen, the variables of the optical network, of which a copy is returned; for
            NNX, the optical module, which is changed and returned.

    Raises:
        ValueError: a parameter of one has no counterpart in the other, or has another shape or
            kind of number; the message lists all of them by their paths.
        TypeError: `model` or `variables` is something else.
    """
    if isinstance(model, nnx.Module):
        state = nnx.state(model, nnx.Not(nnx.RngState))
        values = _filled(_nnx_values(variables), nnx.to_pure_dict(state))
        nnx.replace_by_pure_dict(state, values)
        nnx.update(model, state)
        return model
    if not isinstance(model, Mapping):
        raise TypeError(
            f"load_dense: `model` is of type {type(model).__name__}, expected the variables of a "
            "Linen network, as its `init` returns them, or an NNX module"
        )
    boxed = unfreeze(dict(model))
    for name, tree in (("variables", variables), ("model", boxed)):
        if not isinstance(tree, Mapping) or "params" not in tree:
            raise TypeError(
                f'load_dense: `{name}` has no collection "params", expected variables of a Linen '
                "network, as its `init` returns them"
            )
    values = _filled(meta.unbox(unfreeze(variables)), meta.unbox(boxed))
    return meta.replace_boxed(boxed, values)


def _nnx_values(variables: Any) -> Mapping[Any, Any]:
    """The values in a module, a state or a dict, without random streams."""
    if isinstance(variables, nnx.Module):
        variables = nnx.state(variables)
    if isinstance(variables, nnx.State):
        return nnx.to_pure_dict(nnx.filter_state(variables, nnx.Not(nnx.RngState)))
    if isinstance(variables, Mapping):
        return variables
    raise TypeError(
        f"load_dense: `variables` is of type {type(variables).__name__}, expected an NNX module, "
        "its state, or that as a dict"
    )


class _Pair(NamedTuple):
    """A variable and its counterpart, by the paths of both; None where there is none."""

    path: tuple[Any, ...]
    target: Any
    source_path: tuple[Any, ...]
    source: Any


def _filled(source: Mapping[Any, Any], target: Mapping[Any, Any]) -> dict[Any, Any]:
    """`target` with the values of `source`."""
    faults, filled = [], {}
    for pair in _pairs(source, target, (), ()):
        if pair.target is None:
            if not _is_random(pair.source_path, pair.source):
                faults.append(f"`variables` has {_named(pair.source_path)}, and `model` has not")
            continue
        value, fault = _value(pair)
        if fault:
            faults.append(fault)
        place = filled
        for key in pair.path[:-1]:
            place = place.setdefault(key, {})
        place[pair.path[-1]] = value
    if faults:
        raise ValueError(
            "load_dense: the networks differ; give counterparts the same name and size:\n  "
            + "\n  ".join(faults)
        )
    return filled


def _value(pair: _Pair) -> tuple[Any, str]:
    """The value of a variable of the model, and what is wrong with its counterpart."""
    target, source = pair.target, pair.source
    if source is None:
        if pair.path[-1] in _OPTICAL:
            return target, ""
        own, other = _named(pair.path), _named(pair.source_path)
        place = "" if own == other else f" at {other}"
        return target, f"`model` has {own}, and `variables` has none{place}"
    if jnp.shape(source) != jnp.shape(target):
        return target, (
            f"{_named(pair.source_path)} has shape {jnp.shape(source)}, expected "
            f"{jnp.shape(target)} as {_named(pair.path)} of `model`"
        )
    got, want = jnp.result_type(source), jnp.result_type(target)
    both_float = jnp.issubdtype(got, jnp.floating) and jnp.issubdtype(want, jnp.floating)
    if got != want and not both_float:
        return target, (
            f"{_named(pair.source_path)} is {got}, expected {want} as {_named(pair.path)} of "
            "`model`"
        )
    return jnp.asarray(source, want), ""


def _pairs(
    source: Mapping[Any, Any], target: Mapping[Any, Any], source_path: Any, path: Any
) -> Iterator[_Pair]:
    """Every variable of both, each with its counterpart."""
    by_name = {str(key): key for key in source}
    found = set()
    for key, wanted in target.items():
        name = _counterpart(str(key), by_name, target)
        found.add(name)
        value = _plain(source[by_name[name]]) if name in by_name else None
        inner, own = (*source_path, name), (*path, key)
        if isinstance(wanted, Mapping):
            yield from _pairs(value if isinstance(value, Mapping) else {}, wanted, inner, own)
        else:
            yield _Pair(own, wanted, inner, None if isinstance(value, Mapping) else value)
    for name, key in by_name.items():
        if name not in found:
            yield from _unmatched(_plain(source[key]), (*source_path, name))


def _unmatched(value: Any, path: tuple[Any, ...]) -> Iterator[_Pair]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unmatched(_plain(inner), (*path, str(key)))
    elif value is not None:
        yield _Pair((), None, path, value)


def _counterpart(name: str, source: Mapping[str, Any], target: Mapping[Any, Any]) -> str:
    """The name in the electronic network of what is called `name` in the optical one."""
    automatic = re.fullmatch(r"Optical(\w+)_(\d+)", name)
    if automatic is None or name in source:
        return name
    kind, number = automatic.groups()
    own = any(re.fullmatch(rf"{kind}_\d+", str(key)) for key in target)
    return name if own else f"{kind}_{number}"


def _plain(value: Any) -> Any:
    return value_of(value) if isinstance(value, nnx.Variable) else value


def _is_random(path: tuple[str, ...], value: Any) -> bool:
    """Whether a value in a dict is that of a random stream of NNX."""
    dtype = getattr(value, "dtype", None)
    key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    return key or (len(path) > 1 and "rngs" in path[:-1] and path[-1] in ("count", "key"))


def _named(path: tuple[Any, ...]) -> str:
    return "`" + "/".join(map(str, path)) + "`"
