"""Operations that reductions, of axes and of windows, apply to all elements."""

BY_OPERATION = {
    "add": "sum",
    "and": "and",
    "max": "max",
    "min": "min",
    "mul": "prod",
    "or": "or",
    "xor": "xor",
}
"""Primitive → what the reduction by it is called behind its prefix: "reduce_sum"."""
