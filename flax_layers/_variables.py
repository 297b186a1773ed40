"""Values of NNX variables, whatever their shape, on every Flax that is supported."""

from __future__ import annotations

from typing import Any

from flax import nnx

# Flax 0.12.0 has the attribute alone, of which later releases warn.
_HAS_METHODS = hasattr(nnx.Variable, "set_value")


def value_of(variable: nnx.Variable[Any]) -> Any:
    """The value, an array or what stands for one."""
    return variable.get_value() if _HAS_METHODS else variable.value


def set_value(variable: nnx.Variable[Any], value: Any) -> None:
    """Sets the value, which may have another shape than the one before."""
    if _HAS_METHODS:
        variable.set_value(value)
    else:
        variable.value = value
