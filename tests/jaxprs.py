"""What is in a traced function."""

from __future__ import annotations

from typing import Any


def equations(jaxpr: Any) -> list[tuple[str, dict[str, Any], list[tuple[int, ...]]]]:
    """Name, parameters and operand shapes of each equation, also of those inside."""
    found = []
    for equation in jaxpr.eqns:
        inner = [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
        found += [e for p in inner for e in equations(getattr(p, "jaxpr", p))]
        if not inner:
            shapes = [v.aval.shape for v in equation.invars]
            found.append((equation.primitive.name, dict(equation.params), shapes))
    return found
