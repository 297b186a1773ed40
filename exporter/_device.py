"""The photonic processor of a file, and how it runs the products of a node, as plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ._dim import Dim, Shape

Order = Literal["inputs first", "outputs first"]


@dataclass(frozen=True, kw_only=True)
class BusCrosstalk:
    """Crosstalk among the slots of a bus."""

    matrix: tuple[tuple[float, ...], ...] = field(repr=False)
    """C, f32[n, n]: part of the power on slot j that the ring of slot i lets through. Where a bus
    has more than n slots, they are in groups of n that do not see each other."""
    compensation: str = "none"
    """How the weights in the file undo it: "none", or a mode of `compensate`."""
    condition_number: float = 0.0
    """Largest over least singular value of C; 0 where it is not given."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A photonic processor, as far as time and energy follow from it."""

    name: str
    """Of the profile."""
    bank_rows: int
    """Inputs of one bank of weights."""
    bank_columns: int
    """Outputs of one bank."""
    banks: int
    """Banks that work side by side."""
    symbol_rate_hz: float
    """Vectors per second that pass through a bank, Hz."""
    settling_s: float
    """Time in which new weights settle, s."""
    dac_bits: int
    """Bits of input DACs of which a node says nothing; 0 is no converter."""
    weight_bits: int
    """The same of the DACs of weights."""
    adc_bits: int
    """The same of the ADCs."""
    dac_fom_j: float
    """A conversion of b bits takes 2^b times this energy, J."""
    adc_fom_j: float
    """The same of the ADCs, J."""
    modulator_j: float
    """Of each input that is converted, J."""
    laser_w: float
    """Electrical power of the laser of one wavelength, W."""
    ring_w: float
    """Heater of one ring, W."""
    amplifier_w: float
    """Amplifier of one output, W."""
    wavelengths_nm: tuple[float, ...] = field(repr=False)
    """Vacuum wavelength of each slot of a bus, nm."""
    crosstalk: BusCrosstalk | None = None
    """Among these slots."""


FIGURES = tuple(
    one.name for one in fields(Device) if one.name not in ("wavelengths_nm", "crosstalk")
)
"""Fields of a `Device` that are those of its message."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """x[rows, inputs] times w[inputs, outputs], cut into tiles of which a bank holds one at a time.

    With D = ⌈inputs/tile_rows⌉ and A = ⌈outputs/tile_columns⌉, pass p of D·A holds tile
    (p mod D, p div D), or with outputs first (p div A, p mod A), on bank p mod banks in turn
    p div banks.
    """

    inputs: Dim
    outputs: Dim
    tile_rows: int
    tile_columns: int
    order: Order = "inputs first"
    slots: tuple[int, ...] = ()
    """Slot of each input; (): its place in its tile."""
    layer: str = ""
    """What the plan of wavelengths calls it; empty without a plan."""


def weights_of(
    op: str, attrs: Mapping[str, Any], shapes: Sequence[Shape]
) -> tuple[tuple[Dim, Dim], ...]:
    """Inputs and outputs of each product that a node of `op` runs on a processor, in order."""
    match op:
        case "optical_matmul" | "optical_matmul_fwd":
            return (_of_matrix(attrs, shapes, 1),)
        case "complex_optical_matmul" | "complex_optical_matmul_fwd":
            # A complex number is two floats on the way in and on the way out.
            return (_of_matrix(attrs, shapes, 2),)
        case "optical_conv" | "optical_conv_fwd":
            tall, wide, channels, columns = shapes[1]
            return ((tall * wide * channels, columns // int(attrs["feature_group_count"])),)
        case "optical_attention":
            (_, _, _, depth), (_, time, _, width) = shapes[0], shapes[2]
            return (depth, time), (time, width)
        case _:
            return ()


def _of_matrix(attrs: Mapping[str, Any], shapes: Sequence[Shape], parts: int) -> tuple[Dim, Dim]:
    outputs = shapes[1][0 if attrs["transpose_weight"] else 1]
    return shapes[0][1] * parts, outputs * parts
