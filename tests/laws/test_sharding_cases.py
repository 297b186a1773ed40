"""Every case of every op over four devices: the bits of the whole op, whatever is split."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from case import Case
from cases import CASES
from lumina_jax.ops import OPS
from operands import bind, call, types_of

DEVICES = 4


def split_names(case: Case) -> list[str]:
    """The dimensions that shards may hold parts of and that results have: rows, outputs, heads."""
    signature = types_of(case.op, **case.attrs)
    sizes = signature.sizes([operand.shape for operand in case.operands()])
    kept = signature.whole | signature.bound
    of_results = {name for result in signature.results for name in result.names if name}
    return sorted(name for name in of_results - kept if sizes[name] > 0)


def enlarged(case: Case, name: str) -> list[tuple[np.ndarray, tuple[str | None, ...]]]:
    """The operands with so many times the extent of that dimension, and the axes that split it.

    Any extent is then one that the devices divide. Each device has the slices in an order of its
    own, so that results in a wrong place are seen.
    """
    signature, operands = types_of(case.op, **case.attrs), case.operands()
    sizes = signature.sizes([operand.shape for operand in operands])
    made = []
    for kind, operand, tensor in zip(
        signature.operands._fields, operands, signature.operands, strict=True
    ):
        axes = [known == name for known in tensor.shared(operand.shape, sizes)]
        value = operand
        if any(axes):
            axis = axes.index(True)
            parts = [np.roll(operand, device, axis) for device in range(DEVICES)]
            value = np.concatenate(parts, axis)
        if kind == "columns" and value.size:
            # The ids of columns count up.
            value = value[0] + np.arange(value.size, dtype=np.uint32)
        made.append((value, tuple("d" if split else None for split in axes)))
    return made


def check(case: Case, name: str, results: Sequence[jax.Array]) -> int:
    """Compares with one device all results that have the dimension; how many there are."""
    expected = call(case.op, *(operand for operand, _ in enlarged(case, name)), **case.attrs)
    compared = 0
    tensors = types_of(case.op, **case.attrs).results
    for got, want, tensor in zip(results, expected, tensors, strict=True):
        # A result that is summed over the dimension is added up in another order.
        if name in tensor.names:
            np.testing.assert_array_equal(got, want, f"{case} over {name}")
            compared += 1
    return compared


SPLITS = sorted({(case.op, name) for case in CASES for name in split_names(case)})


@pytest.mark.parametrize(("op", "name"), SPLITS)
def test_shards_give_the_bits_of_the_whole(op: str, name: str) -> None:
    cases = [case for case in CASES if case.op == op and name in split_names(case)]
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))

    def put(operand: np.ndarray, axes: tuple[str | None, ...]) -> jax.Array:
        return jax.device_put(operand, NamedSharding(mesh, PartitionSpec(*axes)))

    operands = [[put(*pair) for pair in enlarged(case, name)] for case in cases]
    program = jax.jit(
        lambda operands: [
            bind(op, *values, **case.attrs) for case, values in zip(cases, operands, strict=True)
        ]
    )
    compared = [
        check(case, name, results) for case, results in zip(cases, program(operands), strict=True)
    ]
    assert all(compared)


def test_every_op_is_split() -> None:
    # The shape of weights that are made of codes is an attribute, so that each device has all.
    ops = set(OPS) - {"dequantize"}
    assert {op for op, name in SPLITS if name == "m"} == ops
    # A softmax needs all of its columns.
    by_row = {"causal_softmax", "causal_softmax_grad"}
    assert {op for op, name in SPLITS if name in ("n", "h")} == ops - by_row
