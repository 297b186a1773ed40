"""The table of rules, and what to say about primitives that have none."""

from __future__ import annotations

from collections.abc import Callable

from lumina_jax.ops import OPS

from .._errors import Unsupported
from .._lower import Context, Rule

_RULES: dict[str, Rule] = {}

_CALLBACK = "the file runs without Python; compute this outside of the exported function"
_RANDOM = (
    "only the noise of the optical ops is random in a file; draw the numbers outside of the "
    "function and pass them as an argument; for inference, pass deterministic=True to layers"
)
_REASONS = {
    **dict.fromkeys(("io_callback", "pure_callback"), _CALLBACK),
    "random_bits": _RANDOM,
    "shard_map": "it splits arrays over devices; export the function that it maps",
    "random_seed": "pass the key as an argument, made by jax.random.key outside of the function",
}
_CALLS = {"cond", "scan", "while"}
_NO_RULE = (
    "no rule exports it; write this line with operations that have one, or return its operand and "
    "go on outside of the model"
)


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
    raise Unsupported(_REASONS.get(primitive, _NO_RULE))


def can_be_left(primitive: str) -> bool:
    """Whether what follows from constants alone may be computed at run time by `primitive`.

    Loops are not, and the ops of the optical chain: they are computed once, as in training.
    """
    return primitive in _RULES and primitive not in _CALLS


def primitives() -> list[str]:
    """Names of the JAX primitives that have a rule, sorted."""
    return sorted(_RULES)


def reasons() -> dict[str, str]:
    """Why primitives that are known not to export do not, and what to do."""
    return dict(_REASONS)


def _optical(ctx: Context):
    return ctx.node(**ctx.params)
