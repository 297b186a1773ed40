"""A training step of an optical matmul: y, dX and dW of a random cotangent."""

from __future__ import annotations

from .._bench import Case
from .._options import Options
from .._problem import ADC_ONLY, ALL_BITS
from ._matmul import cases as matmul_cases

BFLOAT16 = ALL_BITS._replace(name=f"{ALL_BITS.name}, bfloat16 gradient", grad_precision="bfloat16")
INT8 = ALL_BITS._replace(name=f"{ALL_BITS.name}, int8 gradient", grad_precision="int8")


def cases(options: Options) -> list[Case]:
    """With an ADC alone, and with all converters; the gradient in each of its precisions."""
    return matmul_cases(options, "step", (ADC_ONLY, ALL_BITS, BFLOAT16, INT8))
