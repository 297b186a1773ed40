"""How a processor runs the optical nodes of a model: tiles, wavelengths, crosstalk."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lumina_jax._arguments import choice, instance
from lumina_jax.cost.energy import EnergyAssumptions, bank_of, laser_w
from lumina_jax.hardware.compensation import Mode
from lumina_jax.hardware.crosstalk import CrosstalkMatrix
from lumina_jax.hardware.profiles import HardwareProfile, profile_of
from lumina_jax.physics._constants import LIGHT_SPEED
from lumina_jax.planner import Plan

from ._by_slot import BySlot
from ._device import BusCrosstalk, Device, Product, weights_of
from ._errors import ExportError, ScheduleWarning, quoted
from ._graph import Graph, Node, Region
from ._plan_layers import PlanLayers, on_slots

_OP = "export"
# A reader checks the condition number of matrices up to this size, and one that can be undone.
_MOST_CONDITIONED = 256
_LARGEST_CONDITION = 1e6
_MOST_SLOTS = 2048


def on_device(
    graphs: Sequence[Graph],
    profile: HardwareProfile | str,
    plan: Plan | None,
    compensation: Mode | None,
    assumptions: EnergyAssumptions | None,
    by_slot: BySlot | None,
) -> tuple[list[Graph], Device]:
    """The graphs with the execution of each optical node, and the device that it is on.

    `by_slot` has put the inputs of layers in the order of their slots, if it is given.

    Raises:
      TypeError, ValueError: as `export`.
    """
    profile = profile_of(_OP, profile)
    instance(_OP, "plan", plan, Plan | None, "a Plan of WDMPlanner or None")
    assumed = EnergyAssumptions() if assumptions is None else assumptions
    instance(_OP, "assumptions", assumed, EnergyAssumptions, "EnergyAssumptions or None")
    if compensation is not None:
        choice(_OP, "compensation", compensation, Mode)
    device = _device(profile, plan, compensation, assumed)
    layers = PlanLayers(plan if by_slot is None else by_slot.after(), graphs)
    done = [_Placed(device, layers, graph).graph() for graph in graphs]
    layers.check_all_are_used()
    if by_slot is not None:  # the crosstalk that weights carry is that of inputs in their order
        layers.placed = [(name, by_slot.slots(name)) for name, _ in layers.placed]
    _warn(profile, device, layers)
    return done, device


def _device(
    profile: HardwareProfile,
    plan: Plan | None,
    compensation: Mode | None,
    assumed: EnergyAssumptions,
) -> Device:
    rate = profile.converters.symbol_rate_hz
    if rate is None:
        raise ExportError(
            f"{_OP}: `profile` {profile.name!r} must have a `converters.symbol_rate_hz`, got None"
        )
    rows, columns = bank_of(_OP, profile)
    wavelengths = _wavelengths(profile, plan)
    if rows > len(wavelengths):
        raise ExportError(
            f"{_OP}: `plan` has buses of {len(wavelengths)} wavelengths, expected at least the "
            f"{rows} inputs of a bank of `profile`; plan with a wider grid, or give the profile "
            f"bank=WeightBank(rows={len(wavelengths)})"
        )
    converters = profile.converters
    return Device(
        name=profile.name,
        bank_rows=rows,
        bank_columns=columns,
        banks=assumed.banks,
        symbol_rate_hz=rate,
        settling_s=assumed.weight_settling_s,
        dac_bits=converters.dac_bits or 0,
        weight_bits=converters.weight_bits or 0,
        adc_bits=converters.adc_bits or 0,
        dac_fom_j=assumed.dac_fom_j,
        adc_fom_j=assumed.adc_fom_j,
        modulator_j=assumed.modulator_j,
        laser_w=laser_w(profile, assumed),
        ring_w=assumed.ring_tuning_w,
        amplifier_w=assumed.amplifier_w,
        wavelengths_nm=wavelengths,
        crosstalk=_crosstalk(profile, plan, compensation, len(wavelengths)),
    )


def _wavelengths(profile: HardwareProfile, plan: Plan | None) -> tuple[float, ...]:
    """Of the slots of the plan, or of the grid of the profile around its laser."""
    if plan is not None:
        return tuple((1e9 * plan.grid.wavelengths_m).tolist())
    grid = profile.grid
    center = LIGHT_SPEED / (1e-9 * profile.laser.wavelength_nm)
    slots = np.arange(grid.channels) - (grid.channels - 1) / 2
    frequencies = center + grid.spacing_hz * slots
    if frequencies[0] <= 0:
        width = grid.channels * grid.spacing_hz
        raise ExportError(
            f"{_OP}: `profile` has a grid of {width / 1e12:.4g} THz, expected less than twice the "
            f"frequency of its laser, {center / 1e12:.4g} THz"
        )
    wavelengths = (1e9 * LIGHT_SPEED / frequencies).tolist()
    if len(set(wavelengths)) < len(wavelengths):
        raise ExportError(
            f"{_OP}: `profile` has a `grid.spacing_hz` of {grid.spacing_hz:g}, at which slots have "
            "the same wavelength"
        )
    return tuple(wavelengths)


def _crosstalk(
    profile: HardwareProfile, plan: Plan | None, compensation: Mode | None, slots: int
) -> BusCrosstalk | None:
    """By slots: that of the profile, or that among the slots of the plan."""
    own = profile.crosstalk
    channels = slots if own is None else own.channels
    if own is None and plan is None:
        if compensation is not None:
            raise ExportError(
                f"{_OP}: `compensation` is {compensation!r}, but `profile` has no crosstalk to undo"
            )
        return None
    is_of_plan = plan is not None and (own is None or _is_of_plan(own, plan))
    if not is_of_plan and channels > slots:
        raise ExportError(
            f"{_OP}: `profile` has crosstalk among {channels} channels on a bus of {slots} "
            "wavelengths; give the `plan` that it comes from, or the matrix of one bus"
        )
    if max(channels if not is_of_plan else 0, slots if is_of_plan else 0) > _MOST_SLOTS:
        raise ExportError(
            f"{_OP}: a file holds the crosstalk among at most {_MOST_SLOTS} slots, got "
            f"{slots if is_of_plan else channels}"
        )
    if is_of_plan:
        assert plan is not None
        matrix = plan.ring.coupling(plan.grid.frequencies_hz)
    else:
        assert own is not None
        matrix = own.matrix
    matrix = matrix.astype(np.float32).astype(np.float64)
    condition = 0.0
    if len(matrix) <= _MOST_CONDITIONED:
        singular = np.linalg.svd(matrix, compute_uv=False)
        if singular[-1] > 0 and singular[0] / singular[-1] <= _LARGEST_CONDITION:
            condition = float(singular[0] / singular[-1])
    if compensation is not None and not condition:
        raise ExportError(
            f"{_OP}: `compensation` is {compensation!r}, but crosstalk among {len(matrix)} slots "
            f"has no condition number up to {_LARGEST_CONDITION:g}, or more than "
            f"{_MOST_CONDITIONED} slots"
        )
    return BusCrosstalk(
        matrix=tuple(map(tuple, matrix.tolist())),
        compensation=compensation or "none",
        condition_number=condition,
    )


def _is_of_plan(own: Any, plan: Plan) -> bool:
    """Whether crosstalk is what `plan.crosstalk` says of one of its layers."""
    if not isinstance(own, CrosstalkMatrix):
        return False
    return any(own == plan.crosstalk(name) for name in {bus.layer for bus in plan.buses})


class _Placed:
    """Puts the nodes of an entry point on the device."""

    def __init__(self, device: Device, layers: PlanLayers, graph: Graph) -> None:
        self.device, self.layers, self.entry = device, layers, graph

    def graph(self) -> Graph:
        return replace(self.entry, nodes=self.nodes(self.entry.nodes))

    def nodes(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        return tuple(map(self.node, nodes))

    def node(self, node: Node) -> Node:
        if node.regions:
            attrs = {
                name: replace(attr, nodes=self.nodes(attr.nodes))
                if isinstance(attr, Region)
                else attr
                for name, attr in node.attrs.items()
            }
            return replace(node, attrs=attrs)
        sizes = weights_of(node.op, node.attrs, [value.shape for value in node.inputs])
        return replace(
            node, execution=tuple(self.product(node, i, *s) for i, s in enumerate(sizes))
        )

    def product(self, node: Node, index: int, inputs: Any, outputs: Any) -> Product:
        rows = self.device.bank_rows
        layer, slots = self.layers.of(node, index, inputs, rows)
        return Product(
            inputs=inputs,
            outputs=outputs,
            tile_rows=rows,
            tile_columns=self.device.bank_columns,
            slots=() if slots == tuple(k % rows for k in range(len(slots))) else slots,
            layer=layer,
        )


def _warn(profile: HardwareProfile, device: Device, layers: PlanLayers) -> None:
    if layers.unplanned:
        warnings.warn(
            ScheduleWarning(
                f"{_OP}: `plan` has no layer for {quoted(layers.unplanned)}, whose inputs are on "
                "the slots in order; the planner sees no layer inside scan, while_loop and cond"
            ),
            stacklevel=4,
        )
    if profile.crosstalk is None or device.crosstalk is None:
        return
    carried = profile.crosstalk.matrix
    by_slot = np.array(device.crosstalk.matrix)
    moved = [
        name
        for name, slots in layers.placed
        if not _agree(carried, by_slot, np.array(slots), device.bank_rows)
    ]
    if moved:
        warnings.warn(
            ScheduleWarning(
                f"{_OP}: `plan` puts the inputs of {quoted(moved)} on slots whose crosstalk is not "
                "that of `profile` in the order of the model, with which layers compute; train "
                "them with dataclasses.replace(profile, crosstalk=plan.crosstalk(name))"
            ),
            stacklevel=4,
        )


def _agree(carried: Any, by_slot: Any, slots: Any, rows: int) -> bool:
    """Whether the inputs of each tile have the crosstalk on their slots that the weights carry."""
    for start in range(0, len(slots), rows):
        inputs = np.arange(start, min(start + rows, len(slots)))
        of_model = on_slots(carried, inputs)
        if not np.allclose(of_model, on_slots(by_slot, slots[inputs]), rtol=0, atol=1e-6):
            return False
    return True
