"""Cases of weights that are made of codes, for the table in `cases.py`."""

from __future__ import annotations

import numpy as np

from case import Case
from lumina_jax.ops._codes import packed


def _dequantize(
    label: str,
    bits: int,
    depth: int,
    columns: int,
    *,
    group: int | None = None,
    by_column: bool = True,
    tables: int = 0,
    transpose: bool = False,
) -> Case:
    groups = 1 if group is None else -(-depth // group)

    def operands() -> list[np.ndarray]:
        rng = np.random.default_rng(bits)
        codes = rng.integers(0, 2**bits, (depth, columns), dtype=np.uint8)
        by_group = (groups, columns if by_column else 1)
        return [
            packed(codes, bits),
            rng.uniform(0.1, 2, by_group).astype(np.float32),
            rng.integers(0, 2 ** (bits + 1), by_group).astype(np.float32) / 2,
            np.sort(rng.normal(0, 1, (tables, 2**bits)).astype(np.float32)),
        ]

    return Case(
        op="dequantize",
        label=label,
        operands=operands,
        attrs={
            "bits": bits,
            "shape": (columns, depth) if transpose else (depth, columns),
            "transpose": transpose,
            "group": group or max(depth, 1),
        },
        tolerance=0.0,
    )


CODE_CASES: list[Case] = [
    *(_dequantize(f"{bits} bits", bits, 37, 19) for bits in range(1, 9)),
    _dequantize("3 bits, by group", 3, 100, 17, group=32),
    _dequantize("4 bits, by row", 4, 9, 40, group=1, by_column=False),
    _dequantize("4 bits, table by column, transposed", 4, 30, 21, tables=21, transpose=True),
    _dequantize("8 bits, one table", 8, 5, 3, tables=1, by_column=False),
    _dequantize("no depth", 4, 0, 3),
]
