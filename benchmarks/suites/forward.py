"""The output of an optical matmul. At (1, 784, 512) it is the cost of a call."""

from __future__ import annotations

from .._bench import Case
from .._options import Options
from .._problem import ADC_ONLY, ALL_BITS
from ._matmul import cases as matmul_cases


def cases(options: Options) -> list[Case]:
    """With an ADC alone, and with all converters."""
    return matmul_cases(options, "forward", (ADC_ONLY, ALL_BITS))
