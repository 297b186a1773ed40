"""What a model costs on a photonic processor: energy, converters, latency, area."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from .._arguments import instance, integer, scalar
from .._floating_point import numpy_defaults
from ..hardware.profiles import HardwareProfile, profile_of
from ..physics import walden_energy
from .reports import Assumption, EnergyReport, LayerEnergy
from .workload import MatmulLayer, layers_of


@dataclass(frozen=True, kw_only=True)
class EnergyAssumptions:
    """What a profile does not say. Round figures for planning: replace them by those of a device.

    Raises:
        TypeError, ValueError: a value is not a number, or is out of its range.
    """

    adc_fom_j: float = 50e-15
    """Walden figure of merit of the ADCs, J per conversion step."""
    dac_fom_j: float = 20e-15
    """The same of the DACs."""
    modulator_j: float = 50e-15
    """Modulator and its driver, J per symbol."""
    ring_tuning_w: float = 1e-3
    """Heater of one ring, W."""
    amplifier_w: float = 2e-3
    """Transimpedance amplifier of one output, W."""
    wall_plug_efficiency: float = 0.1
    """Optical over electrical power of the lasers, 0 to 1 (no unit)."""
    weight_settling_s: float = 10e-6
    """Time in which new weights settle, s; that of a heater."""
    banks: int = 1
    """Weight banks that work side by side."""
    converter_area_m2: float = 2e-9
    """One ADC or DAC, m²."""

    def __post_init__(self) -> None:
        name = "EnergyAssumptions"
        banks = integer(name, "banks", self.banks, at_least=1, at_most=2**31 - 1)
        object.__setattr__(self, "banks", banks)
        limits: dict[str, dict[str, float]] = {
            "wall_plug_efficiency": {"above": 0, "at_most": 1},
            "adc_fom_j": {"above": 0},
            "dac_fom_j": {"above": 0},
        }
        for field in fields(self):
            if field.name != "banks":
                value = getattr(self, field.name)
                scalar(name, field.name, value, **limits.get(field.name, {"at_least": 0.0}))
                object.__setattr__(self, field.name, float(value))


@numpy_defaults
def energy_report(
    model: Any,
    profile: HardwareProfile | str,
    *,
    inputs: Sequence[Any] | None = None,
    symbols: Mapping[str, int] | None = None,
    assumptions: EnergyAssumptions | None = None,
) -> EnergyReport:
    """Estimates what the optical matmuls of a model cost; everything else is left out.

    A weight bank multiplies R inputs, one wavelength each, by R × C weights: a layer of k inputs
    and n outputs takes T = ⌈k/R⌉·⌈n/C⌉ settings of it, called tiles, through each of which all rows
    pass, one per symbol. Per call

        conversions   rows·k·⌈n/C⌉ of inputs,  k·n of weights,  rows·n·⌈k/R⌉ of (partial) outputs
        latency       ⌈T/banks⌉·(settling + rows/rate)
        energy        conversions·FoM·2^bits (Walden), modulator per input conversion, and lasers,
                      heaters and amplifiers for the latency, of all banks

    R is `bank.rows` of the profile, or `grid.channels`, or fewer where the link budget does not
    carry as many to the sensitivity of its receiver; C is `bank.columns`, or R. The ops and layers
    simulate arrays of `array_rows` inputs each: the first line of the report says whether these
    are the same. The order of magnitude is what to take from it; every number
    that it rests on is in `assumptions` of the report.

    Args:
        model: an exported graph or model; a function with example `inputs`; or a list of (rows, k,
            n) tuples or `MatmulLayer`s.
        profile: the processor, or the name of a preset; it needs `converters.symbol_rate_hz`.
        inputs: example arguments of a function. A conditional in it counts as its cheapest branch,
            and a `while` as one pass.
        symbols: extents of symbolic dimensions of a graph; 1 where they are not given.
        assumptions: what the profile does not say.

    Raises:
        TypeError, ValueError: the model cannot be read or has no optical matmul; the profile has no
            symbol rate, or its link does not reach the receiver.
    """
    name = "energy_report"
    profile = profile_of(name, profile)
    assumed = EnergyAssumptions() if assumptions is None else assumptions
    instance(name, "assumptions", assumed, EnergyAssumptions, "EnergyAssumptions or None")
    layers = layers_of(name, model, inputs=inputs, symbols=symbols)
    rate = profile.converters.symbol_rate_hz
    if rate is None:
        raise ValueError(f"{name}: `profile` must have a `converters.symbol_rate_hz`, got None")
    channels, columns = bank_of(name, profile)
    costs = tuple(_cost(layer, profile, assumed, (channels, columns), rate) for layer in layers)
    energy = {part: sum(cost.energy_j[part] for cost in costs) for part in costs[0].energy_j}
    total = sum(energy.values())
    macs = sum(layer.macs for layer in layers)
    latency = sum(cost.latency_s for cost in costs)
    converters = {
        "input DACs": channels * assumed.banks,
        "weight DACs": channels * columns * assumed.banks,
        "ADCs": columns * assumed.banks,
    }
    pitch = 1e-6 * profile.ring.pitch_um
    rings = (channels * columns + channels) * assumed.banks
    return EnergyReport(
        profile=profile.name,
        channels=channels,
        columns=columns,
        banks=assumed.banks,
        converters=converters,
        layers=costs,
        macs=macs,
        energy_j=energy,
        total_j=total,
        energy_per_mac_j=total / macs,
        latency_s=latency,
        power_w=total / latency,
        area_m2=rings * pitch**2 + sum(converters.values()) * assumed.converter_area_m2,
        assumptions=_assumptions(profile, assumed, layers, symbols, rate),
    )


def bank_of(name: str, profile: HardwareProfile) -> tuple[int, int]:
    """Inputs and outputs of a bank of the profile."""
    channels = _channels(name, profile)
    return channels, channels if profile.bank.columns is None else profile.bank.columns


def laser_w(profile: HardwareProfile, assumed: EnergyAssumptions) -> float:
    """Electrical power of the laser of one wavelength, W."""
    return 1e-3 * 10 ** (profile.laser.power_dbm / 10) / assumed.wall_plug_efficiency


def _channels(name: str, profile: HardwareProfile) -> int:
    """Inputs of a bank: as many as it has, as the bus has, and as the light carries."""
    most = profile.grid.channels if profile.bank.rows is None else profile.bank.rows
    sensitivity = profile.detector.sensitivity_dbm
    if sensitivity is None:
        return most
    reached = profile.link_budget.max_channels(sensitivity)
    if reached < 1:
        power = float(profile.link_budget.output_dbm(1))
        raise ValueError(
            f"{name}: `profile` has a link that brings {power:.1f} dBm to one receiver, "
            f"expected its sensitivity, {sensitivity:g} dBm, or more"
        )
    return min(most, reached)


def _cost(
    layer: MatmulLayer,
    profile: HardwareProfile,
    assumed: EnergyAssumptions,
    bank: tuple[int, int],
    rate: float,
) -> LayerEnergy:
    channels, columns = bank
    down, across = math.ceil(layer.k / channels), math.ceil(layer.n / columns)
    tiles = down * across
    inputs = layer.calls * layer.rows * layer.k * across
    weights = layer.calls * layer.k * layer.n
    outputs = layer.calls * layer.rows * layer.n * down
    turns = math.ceil(tiles / assumed.banks)
    latency = layer.calls * turns * (assumed.weight_settling_s + layer.rows / rate)

    def conversion(of_layer: int | None, of_profile: int | None, fom: float) -> float:
        bits = of_profile if of_layer is None else of_layer
        return 0.0 if bits is None else float(walden_energy(bits, fom))

    device = profile.converters
    rings = channels * columns + channels
    on = latency * assumed.banks
    return LayerEnergy(
        layer=layer,
        tiles=tiles,
        dac_conversions=inputs,
        weight_conversions=weights,
        adc_conversions=outputs,
        latency_s=latency,
        energy_j={
            "input DACs": inputs * conversion(layer.dac_bits, device.dac_bits, assumed.dac_fom_j),
            "modulators": inputs * assumed.modulator_j,
            "weight DACs": weights
            * conversion(layer.weight_bits, device.weight_bits, assumed.dac_fom_j),
            "ADCs": outputs * conversion(layer.adc_bits, device.adc_bits, assumed.adc_fom_j),
            "lasers": on * channels * laser_w(profile, assumed),
            "ring tuning": on * rings * assumed.ring_tuning_w,
            "amplifiers": on * columns * assumed.amplifier_w,
        },
    )


def _assumptions(
    profile: HardwareProfile,
    assumed: EnergyAssumptions,
    layers: Sequence[MatmulLayer],
    symbols: Mapping[str, int] | None,
    rate: float,
) -> tuple[Assumption, ...]:
    units = {"j": "J", "w": "W", "s": "s", "m2": "m²"}
    stated = [
        Assumption(name="symbol rate", value=rate, unit="Hz", source="profile"),
        Assumption(name="laser, per wavelength", value=profile.laser.power_dbm, unit="dBm",
                   source="profile"),
        Assumption(name="ring pitch", value=profile.ring.pitch_um, unit="µm", source="profile"),
        Assumption(name="channels of a bus, at most", value=profile.grid.channels, unit="",
                   source="profile"),
        Assumption(name="receiver sensitivity",
                   value="not limiting" if profile.detector.sensitivity_dbm is None
                   else profile.detector.sensitivity_dbm,
                   unit="" if profile.detector.sensitivity_dbm is None else "dBm",
                   source="profile"),
    ]  # fmt: skip
    for kind, given in (("dac", "input DAC"), ("weight", "weight DAC"), ("adc", "ADC")):
        own = {bits for layer in layers if (bits := getattr(layer, f"{kind}_bits")) is not None}
        silent = any(getattr(layer, f"{kind}_bits") is None for layer in layers)
        if own:
            text = ", ".join(str(bits) for bits in sorted(own))
            stated.append(
                Assumption(name=f"{given} resolution", value=text, unit="bits", source="model")
            )
        bits = getattr(profile.converters, f"{kind}_bits")
        if silent:
            stated.append(
                Assumption(
                    name=f"{given} resolution",
                    value="off" if bits is None else bits,
                    unit="" if bits is None else "bits",
                    source="profile",
                )
            )
    for field in fields(assumed):
        unit = units.get(field.name.rsplit("_", 1)[-1], "")
        stem = field.name.rsplit("_", 1)[0] if unit else field.name
        stated.append(
            Assumption(
                name=stem.replace("_", " "),
                value=getattr(assumed, field.name),
                unit=unit,
                source="assumption",
            )
        )
    stated += [
        Assumption(name=name, value=value, unit="", source="assumption")
        for name, value in (
            ("conversion energy", "figure of merit times 2^bits, nominal bits (Walden)"),
            ("weights", "set once per tile and call, each by its own DAC and heater"),
            ("partial sums", "added up digitally behind the ADC, at no cost"),
            ("lasers, heaters, amplifiers", "on all the time, in every bank"),
            ("left out", "memory, control, digital operations, cooling, packaging"),
            ("area", "rings at their pitch and converters; no lasers, pads or routing"),
        )
    ]
    if symbols is not None:
        stated += [
            Assumption(name=f"extent {symbol}", value=extent, unit="", source="assumption")
            for symbol, extent in symbols.items()
        ]
    return tuple(stated)
