"""Weights that only enter the DAC of an optical op, as the codes that it makes of them.

    code   = clamp(rint(w / s), -Q, Q)       s = full_scale / Q       of 1 bit the sign
    stored = code + Q                        w' = (stored - Q) · s    of 1 bit (stored - ½) · 2·s

The DAC makes the same code of w' as of w, and the level of it has the same bits: an op that is
given w' and the full scale computes what it computes of w. That is looked at, for each weight;
where it does not hold, as for weights that are not finite, the weight stays as it is. A range that
is left to the op is that of the weights as they were, so the file has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lumina_jax._progress import Bar
from lumina_jax.ops.quantize import largest_code

from ._codes import BITS, Codes, Floats, of_matrix
from ._fuse import rewritten
from ._fuse._scope import Cone, Scope
from ._graph import Graph, Node, Tensor, Value
from ._lower import Shared

_OPS = ("optical_conv", "optical_matmul")
_W, _FULL_SCALE = 1, 4
"""Operands of theirs."""
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class _Reading:
    """How an op converts a weight."""

    bits: int
    transpose: bool
    full_scale: bytes
    """f32[0, 1 or columns]"""


@dataclass(frozen=True)
class _Converted:
    codes: Codes
    full_scale: Floats


def with_codes(
    graphs: Sequence[Graph], shared: Shared, kept: Iterable[str], bar: Bar
) -> list[Graph]:
    """The graphs with codes in place of weights that only enter converters, all of the same kind.

    Those whose names are in `kept` stay as they are.
    """
    readings: dict[tuple[str, int], set[_Reading | None]] = {}
    tensors: dict[tuple[str, int], Tensor] = {}
    for graph in graphs:
        constants = {tensor.value.id: tensor for tensor in graph.tensors}
        tensors.update((tensor.key, tensor) for tensor in graph.tensors)
        _read(graph.nodes, constants, readings)
        ends = [port.value for port in graph.outputs]
        ends += [value for state in graph.states for value in (state.after, state.initial) if value]
        _read_otherwise(ends, constants, readings)
    made: dict[tuple[str, int], _Converted] = {}
    stay = set(kept)
    wanted = {
        key: reading
        for key, (reading, *others) in readings.items()
        if reading is not None and not others and key[0] not in stay
    }
    with bar("export: codes", "weight", len(wanted)) as advance:
        for key, reading in wanted.items():
            converted = _converted(tensors[key].data, reading)
            if converted is not None:
                made[key] = converted
            advance(1)
    return [_with(graph, shared, made) for graph in graphs] if made else list(graphs)


def _read(
    nodes: Sequence[Node],
    constants: Mapping[int, Tensor],
    readings: dict[tuple[str, int], set[_Reading | None]],
) -> None:
    """Notes how the nodes of a scope, and those in their regions, read constants."""
    numbers = {id_: tensor.data for id_, tensor in constants.items()}
    for node in nodes:
        if node.op == "broadcast_in_dim" and node.inputs[0].id in numbers:
            number, extents = numbers[node.inputs[0].id], node.outputs[0].shape.constant()
            if number.size == 1 and extents is not None:
                numbers[node.outputs[0].id] = np.broadcast_to(number.reshape(()), extents)
        is_op = node.op in _OPS and node.attrs["weight_bits"] in BITS
        for place, value in enumerate(node.inputs):
            if value.id not in constants:
                continue
            reading = None
            full_scale = numbers.get(node.inputs[_FULL_SCALE].id) if is_op else None
            if place == _W and full_scale is not None:
                bits, transpose = (node.attrs.get(n) for n in ("weight_bits", "transpose_weight"))
                assert isinstance(bits, int)
                reading = _Reading(bits, bool(transpose), full_scale.tobytes())
            readings.setdefault(constants[value.id].key, set()).add(reading)
        for region in node.regions:
            captured = {
                own: constants[outer.id]
                for own, outer in enumerate(region.captures)
                if outer.id in constants
            }
            _read(region.nodes, captured, readings)
            _read_otherwise(region.outputs, captured, readings)


def _read_otherwise(
    values: Iterable[Value],
    constants: Mapping[int, Tensor],
    readings: dict[tuple[str, int], set[_Reading | None]],
) -> None:
    for value in values:
        if value.id in constants:
            readings.setdefault(constants[value.id].key, set()).add(None)


def _converted(weight: np.ndarray, reading: _Reading) -> _Converted | None:
    """The codes of a weight; None where there are none that the DAC gives again."""
    columns = weight.shape[0] if reading.transpose else weight.shape[-1]
    if weight.size == 0 or not np.isfinite(weight).all():
        return None
    w = weight.T if reading.transpose else weight.reshape(-1, columns)
    # As to the kernels, what is below the least normal number is 0.
    w = np.where(np.abs(w) < _TINY, np.float32(0), w)
    full_scale = np.frombuffer(reading.full_scale, np.float32)
    if full_scale.size == 0:
        full_scale = np.abs(w).max(axis=0)
    q = np.float32(largest_code(reading.bits))
    step = full_scale / q
    is_right = np.isfinite(full_scale) & ((full_scale == 0) | (step >= _TINY))
    if not is_right.all():
        return None
    code = _code(w, step, reading.bits)
    if reading.bits == 1:
        stored, zero_point, scale = code > 0, np.float32(0.5), 2 * full_scale
    else:
        stored, zero_point, scale = code + q, q, step
    codes = of_matrix(
        stored.astype(np.uint8),
        reading.bits,
        scale[None, :],
        zero_point.reshape(1, 1),
        shape=weight.shape,
        transpose=reading.transpose,
    )
    again = codes.weight()
    again = again.T if reading.transpose else again.reshape(-1, columns)
    if not np.array_equal(_code(again, step, reading.bits), code):
        return None
    return _Converted(codes, full_scale)


def _code(w: Floats, step: Floats, bits: int) -> Floats:
    """The codes of the DAC: the division is that of its definition."""
    if bits == 1:
        return np.where(w < 0, np.float32(-1), np.float32(1))
    q = np.float32(largest_code(bits))
    divisor = np.where(step == 0, np.float32(1), step)
    with np.errstate(over="ignore"):
        return np.clip(np.rint(w / divisor), -q, q)


def _with(graph: Graph, shared: Shared, made: Mapping[tuple[str, int], _Converted]) -> Graph:
    def change(scope: Scope) -> None:
        weights: dict[tuple[str, int], Value] = {}
        for node in scope.nodes():
            tensor = scope.tensor_of(node.inputs[_W]) if node.op in _OPS else None
            if tensor is None or tensor.key not in made:
                continue
            converted, nodes = made[tensor.key], []
            if tensor.key not in weights:
                operands = converted.codes.operands
                names = (tensor.name, "", "", "")
                values = [scope.tensor(*part) for part in zip(operands, names, strict=True)]
                nodes.append(scope.node("dequantize", values, converted.codes.attrs, node.source))
                weights[tensor.key] = nodes[0].outputs[0]
            inputs = list(node.inputs)
            inputs[_W] = weights[tensor.key]
            if inputs[_FULL_SCALE].shape.constant() == (0,):
                inputs[_FULL_SCALE] = scope.tensor(converted.full_scale)
            scope.replace(Cone((node,), ()), [*nodes, replace(node, inputs=tuple(inputs))])

    return rewritten(graph, shared, change)
