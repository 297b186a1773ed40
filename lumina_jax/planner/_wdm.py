"""`WDMPlanner`: from a model to wavelengths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from .. import _arguments
from .._arguments import choice, instance, number
from .._floating_point import numpy_defaults
from .._values import Floats
from ..hardware.profiles import HardwareProfile, profile_of
from ..physics import Receiver
from ..physics.receiver import MAX_POWER_W
from . import _streams
from ._allocate import allocate
from ._compress import stream_enob
from ._objectives import Objective
from ._plan import Bus, Plan, Stream
from ._ring import Grid, Ring

_OP = "WDMPlanner"
# Streams below this part of the strongest of the model carry nothing: -120 dB.
_DARK = 1e-12
_UNDISTURBED = 53.0
# Of the strongest stream, W, so that f32 holds the darkest.
_FAINTEST = 1e-25


class WDMPlanner:
    """Plans the wavelengths of all inputs of a model.

    The inputs of each layer go on buses of `grid.slots` channels, the first on the first bus, as
    `crosstalk.fold` has them; on each bus `allocate` finds the order. Inputs that are dark on all
    calibration batches take the slots left over.

    Args:
        profile: the device, or the name of a preset, from which ring, grid, receiver and power are
            taken where they are not given. None: `ring` and `grid` are needed.
        ring: the filter of every channel.
        grid: the slots of every bus; they must fit the free spectral range.
        objective: "snr", "max", "product" or "total", as in `allocate`.
        receiver: whose noise is part of the effective bits; None is that of the profile, or one
            without noise where there is no profile or it has no symbol rate.
        power_w: mean optical power of the strongest stream of each layer at the detector, W; None
            is what the link budget of the profile brings there, or 0.1 mW.
        enob_target: bits that every stream should have, for the margins; None for no target.
        seed: as in `allocate`.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of its range.
    """

    def __init__(
        self,
        *,
        profile: HardwareProfile | str | None = None,
        ring: Ring | None = None,
        grid: Grid | None = None,
        objective: Objective = "snr",
        receiver: Receiver | None = None,
        power_w: float | None = None,
        enob_target: float | None = None,
        seed: int = 0,
    ) -> None:
        if profile is not None:
            device = profile_of(_OP, profile)
            ring = Ring.of_profile(device) if ring is None else ring
            if grid is None:
                grid = Grid(slots=device.grid.channels, spacing_hz=device.grid.spacing_hz)
            if receiver is None and device.converters.symbol_rate_hz is not None:
                receiver = device.receiver
            if power_w is None:
                power_w = float(device.link_budget.output_w(grid.slots))
        instance(_OP, "ring", ring, Ring, "a Ring, or a `profile`")
        instance(_OP, "grid", grid, Grid, "a Grid, or a `profile`")
        assert ring is not None
        assert grid is not None
        choice(_OP, "objective", objective, Objective)
        instance(_OP, "receiver", receiver, Receiver | None, "a Receiver or None")
        if enob_target is not None:
            enob_target = number(_OP, "enob_target", enob_target, above=0)
            if enob_target > _UNDISTURBED:
                raise ValueError(
                    f"{_OP}: `enob_target` must be at most {_UNDISTURBED:g}, got {enob_target:g}"
                )
        width = grid.slots * grid.spacing_hz
        if width > ring.fsr_hz:
            raise ValueError(
                f"{_OP}: `grid` takes {width / 1e12:.3g} THz, expected at most the free spectral "
                f"range of `ring`, {ring.fsr_hz / 1e12:.3g} THz"
            )
        self.ring = ring
        self.grid = grid
        self.objective: Objective = objective
        self.receiver = receiver
        self.power_w = number(_OP, "power_w", 1e-4 if power_w is None else power_w, above=0)
        if not _FAINTEST <= self.power_w <= MAX_POWER_W:
            raise ValueError(
                f"{_OP}: `power_w` must be from {_FAINTEST:g} to {MAX_POWER_W:g}, "
                f"got {self.power_w:g}"
            )
        self.enob_target = enob_target
        self.seed = _arguments.seed(_OP, seed)

    @numpy_defaults
    def optimize_allocation(
        self, model_graph: Any, batches: Iterable[ArrayLike] | None = None
    ) -> Plan:
        """The plan for a model.

        The power of a stream is its mean square at the detectors of the layer,
        `⟨x_k²⟩·mean_n w_kn²`, scaled so that the strongest of the layer has `power_w`.

        Args:
            model_graph: a model or graph of the exporter, for whose inputs ⟨x_k²⟩ = 1 is assumed;
                or a Flax model to be run on the batches: a bound Linen module,
                `model.bind(variables)`, an NNX module, or a pure function of a batch. Layers inside
                `scan`, `while_loop` and `cond` are not seen.
            batches: calibration batches, each an argument for the model.

        Raises:
            TypeError: `model_graph` is something else.
            ValueError: there is no optical layer in it; a graph came with batches or a model
                without; a signal is not finite.
        """
        buses: list[Bus] = []
        coupling = self.ring.coupling(self.grid.frequencies_hz)
        for layer in _streams.of_model(model_graph, batches):
            strongest = layer.powers.max()
            powers = layer.powers * (self.power_w / strongest) if strongest > 0 else layer.powers
            powers = np.where(powers > _DARK * self.power_w, powers, 0.0)
            for start in range(0, len(powers), self.grid.slots):
                part = powers[start : start + self.grid.slots]
                buses.append(self._bus(layer.name, start, part, coupling))
        return Plan(
            objective=self.objective,
            ring=self.ring,
            grid=self.grid,
            enob_target=self.enob_target,
            buses=tuple(buses),
        )

    def _bus(self, layer: str, start: int, powers: Floats, coupling: Floats) -> Bus:
        lit = np.flatnonzero(powers)
        slots = np.empty(len(powers), np.intp)
        cost, enob, quiet, leaked = 0.0, np.empty(0), np.empty(0), np.empty(0)
        if lit.size:
            # Costs of "product" and "total" are relative to the strongest stream.
            order, cost = allocate(
                powers[lit] / self.power_w, coupling, self.objective, seed=self.seed
            )
            slots[lit] = order
            enob = stream_enob(powers[lit], coupling, order, self.receiver)
            quiet = stream_enob(powers[lit], coupling, order, None)
            crosstalk = coupling[np.ix_(order, order)] - np.eye(len(order))
            leaked = crosstalk @ powers[lit] / powers[lit]
        free = np.setdiff1d(np.arange(len(coupling)), slots[lit])
        slots[powers == 0] = free[: len(powers) - len(lit)]

        place = {int(index): position for position, index in enumerate(lit)}
        frequencies, wavelengths = self.grid.frequencies_hz, self.grid.wavelengths_m
        streams = []
        for index, slot in enumerate(slots):
            position = place.get(index)
            bits = None if position is None else _finite(enob[position])
            streams.append(
                Stream(
                    input=start + index,
                    slot=int(slot),
                    frequency_hz=float(frequencies[slot]),
                    wavelength_m=float(wavelengths[slot]),
                    power_w=float(powers[index]),
                    crosstalk_db=None if position is None else _decibel(leaked[position]),
                    enob=bits,
                    margin_bits=_less(bits, self.enob_target),
                    limit=None if position is None else _limit(enob[position], quiet[position]),
                    tolerance_k=None if bits is None else self.ring.tolerance_k(max(bits, 1.0)),
                )
            )
        return Bus(layer=layer, cost=cost, streams=tuple(streams))


def _finite(bits: float) -> float:
    """Effective bits; those of a stream that nothing disturbs are as many as f64 has."""
    return min(float(bits), _UNDISTURBED)


def _limit(enob: float, quiet: float) -> str | None:
    """What most of the noise and crosstalk is, of effective bits with and without the receiver."""
    if enob >= _UNDISTURBED:
        return None
    # Half of the power is half a bit.
    return "crosstalk" if quiet - enob < 0.5 else "receiver"


def _less(bits: float | None, target: float | None) -> float | None:
    return None if bits is None or target is None else bits - target


def _decibel(ratio: float) -> float | None:
    return 10 * float(np.log10(ratio)) if ratio > 0 else None
