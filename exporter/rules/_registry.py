"""The table of rules, and what to say about primitives that have none."""

from __future__ import annotations

from collections.abc import Callable

from lumina_jax.ops import OPS

from .._errors import Unsupported
from .._lower import Context, Rule

_RULES: dict[str, Rule] = {}

_LOOP = "loops are not in the format; write a Python loop over a fixed number of steps"
_CALLBACK = "the file runs without Python; compute this outside of the exported function"
_RANDOM = "only the noise of the optical ops is random in a file; pass deterministic=True to layers"
_REASONS = {
    "cond": "its predicate depends on an argument; use jnp.where, or bind the predicate",
    "conv_general_dilated": "convolutions are not in the format yet",
    "erf_inv": _RANDOM,
    "io_callback": _CALLBACK,
    "pure_callback": _CALLBACK,
    "random_bits": _RANDOM,
    "random_seed": "pass the key as an argument, made by jax.random.key outside of the function",
    "scan": _LOOP,
    "while": _LOOP,
}


def rule(*primitives: str) -> Callable[[Rule], Rule]:
    """Registers the decorated function as the rule for the `primitives`."""

    def register(function: Rule) -> Rule:
        for primitive in primitives:
            if primitive in _RULES:
                raise ValueError(f"two rules for the primitive `{primitive}`")
            _RULES[primitive] = function
        return function

    return register


def rule_of(primitive: str) -> Rule:
    """The rule for `primitive`: the one registered for it, or the one of all our ops.

    Raises Unsupported where there is none.
    """
    if primitive in _RULES:
        return _RULES[primitive]
    if primitive in OPS:
        return _optical
    reason = _REASONS.get(primitive, "no rule exports it; write this line with other operations")
    raise Unsupported(reason)


def primitives() -> list[str]:
    """Names of the JAX primitives that have a rule, sorted."""
    return sorted(_RULES)


def _optical(ctx: Context):
    return ctx.node(**ctx.params)
