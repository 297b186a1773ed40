"""The flat fields that `HardwareProfile` had: they work for one release, with a warning."""

from __future__ import annotations

import functools
import warnings
from dataclasses import fields, replace
from typing import Any

PLACES: dict[str, tuple[tuple[str, str], ...]] = {
    "noise_level": (("noise", "relative"),),
    "shot_noise": (("noise", "shot"),),
    "thermal_noise": (("noise", "thermal"),),
    "precision": tuple(("converters", f"{kind}_bits") for kind in ("dac", "weight", "adc")),
    "symbol_rate_hz": (("converters", "symbol_rate_hz"),),
    "temp_drift": (("bank", "drift"),),
    "attenuation": (("path", "transmission"),),
    "edge_coupler_db": (("path", "edge_coupler_db"),),
    "modulator_db": (("path", "modulator_db"),),
    "waveguide_db_per_mm": (("path", "waveguide_db_per_mm"),),
    "splitter_db": (("path", "splitter_db"),),
    "receiver_sensitivity_dbm": (("detector", "sensitivity_dbm"),),
    "responsivity_a_per_w": (("detector", "responsivity_a_per_w"),),
    "dark_current_a": (("detector", "dark_current_a"),),
    "load_ohm": (("detector", "load_ohm"),),
    "temperature_k": (("detector", "temperature_k"),),
    "rin_db_per_hz": (("laser", "rin_db_per_hz"),),
    "laser_dbm": (("laser", "power_dbm"),),
    "wavelength_nm": (("laser", "wavelength_nm"),),
    "ring_q": (("ring", "q"),),
    "ring_through_db": (("ring", "through_db"),),
    "ring_pitch_um": (("ring", "pitch_um"),),
    "max_channels": (("grid", "channels"),),
}
"""Former field → part and field of each place where it is now."""


def accept(cls: Any) -> None:
    """Lets the constructor of a profile take the former fields, and its attributes give them."""
    own = cls.__init__
    made: dict[str, Any] = {entry.name: entry.default_factory for entry in fields(cls)}

    @functools.wraps(own)
    def init(self: Any, **values: Any) -> None:
        given = [name for name in values if name in PLACES]
        if given:
            _warn(*given)
        for former in given:
            value = values.pop(former)
            for part, name in PLACES[former]:
                present = values[part] if part in values else made[part]()
                values[part] = replace(present, **{name: value})
        own(self, **values)

    def former(self: Any, name: str) -> Any:
        if name not in PLACES:
            raise AttributeError(f"{cls.__name__} has no field {name!r}")
        _warn(name)
        found = {getattr(getattr(self, part), field) for part, field in PLACES[name]}
        if len(found) > 1:
            raise AttributeError(f"{cls.__name__}: `{name}` is not one number, {_new(name)} differ")
        return found.pop()

    cls.__init__ = init
    cls.__getattr__ = former


def _new(former: str) -> str:
    return ", ".join(f"`{part}.{name}`" for part, name in PLACES[former])


def _warn(*former: str) -> None:
    moves = "; ".join(f"`{name}` is {_new(name)} now" for name in former)
    warnings.warn(
        f"HardwareProfile: {moves}. The old names go with the next release",
        DeprecationWarning,
        stacklevel=3,
    )
