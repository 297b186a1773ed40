"""Which layers of a model become optical, on which device."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax._arguments import instance
from lumina_jax.hardware.profiles import profile_of

from .._context import RangeMode, check_options
from .._device import device
from ..ranges import AxisName, Ranges

_NAME = "ConversionRule"


class _Unsaid(str):
    """A default that differs from the same text given, so that a contradiction with it is seen."""

    __slots__ = ()


@dataclass(frozen=True)
class ConversionRule:
    """What becomes of the layers whose path matches.

    Raises:
        ValueError: `module_path` is no regular expression, an option is out of its range, the
            preset is unknown, or digital layers are given a device.
        TypeError: an option is of another type.
    """

    module_path: str = ".*"
    """Regular expression for the whole path of a layer, names joined by "/": r"blocks/\\d+/mlp"."""
    digital: bool = field(default=False, kw_only=True)
    """Whether these layers stay as they are; what follows is then not to be given."""
    profile: HardwareProfile | str | None = field(default=_Unsaid("lumina_nano_v1"), kw_only=True)
    """The device, a preset's name, or None: an ideal one."""
    spec: OpticalSpec | None = field(default=None, kw_only=True)
    """Bits of the converters; None: those of the profile."""
    noise: NoiseModel | None = field(default=None, kw_only=True)
    """Noise of the device; None: that of the profile."""
    ranges: RangeMode = field(default="calibrate", kw_only=True)
    """"calibrate": full scales are running averages; "learn": times a factor that is trained."""
    momentum: float = field(default=0.95, kw_only=True)
    """Share of the old full scale in the next one."""
    axis_name: AxisName | None = field(default=None, kw_only=True)
    """Mapped axes over which one batch is spread, as in `OpticalDense`."""

    def __post_init__(self) -> None:
        instance(_NAME, "module_path", self.module_path, str, "a str")
        try:
            re.compile(self.module_path)
        except re.error as fault:
            raise ValueError(
                f"{_NAME}: `module_path` is {self.module_path!r}, expected a regular expression: "
                f"{fault}"
            ) from None
        instance(_NAME, "digital", self.digital, bool, "a bool")
        if self.profile is not None:
            profile_of(_NAME, self.profile)
        instance(_NAME, "spec", self.spec, OpticalSpec | None, "an OpticalSpec or None")
        instance(_NAME, "noise", self.noise, NoiseModel | None, "a NoiseModel or None")
        check_options(_NAME, self.ranges, self.momentum)
        if self.digital and (given := self._given):
            raise ValueError(
                f"{_NAME}: `{given[0]}` is {getattr(self, given[0])!r} and `digital` is True, "
                "expected one of the two: digital layers run on no device; drop `digital` for "
                f"optical layers, or `{given[0]}` for digital ones"
            )

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of an optical layer that it gives."""
        return {name: getattr(self, name) for name in _OPTIONS}

    @property
    def _given(self) -> list[str]:
        """Names of the options that are not left at their defaults."""
        values = [(f.name, getattr(self, f.name), f.default) for f in fields(self)]
        return [
            name
            for name, value, plain in values
            if name in _OPTIONS and (type(value) is not type(plain) or value != plain)
        ]

    @property
    def has_ranges(self) -> bool:
        """Whether its layers have converters with full scales to keep."""
        return bool(device(_NAME, self.profile, self.spec, self.noise).signals(Ranges))


_OPTIONS = ("profile", "spec", "noise", "ranges", "momentum", "axis_name")
"""Fields that say how optical layers run."""


def check_rules(op: str, rules: Any) -> tuple[ConversionRule, ...]:
    """Rules as a tuple; TypeError unless they are a rule or a sequence of them."""
    if isinstance(rules, ConversionRule):
        return (rules,)
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise TypeError(
            f"{op}: `rules` is of type {type(rules).__name__}, expected a sequence of "
            "ConversionRule"
        )
    for i, rule in enumerate(rules):
        instance(op, f"rules[{i}]", rule, ConversionRule, "a ConversionRule")
    return tuple(rules)


def first_match(rules: Sequence[ConversionRule], path: str) -> int | None:
    """The place of the first rule for a layer at `path`; None where there is none."""
    return next((i for i, rule in enumerate(rules) if re.fullmatch(rule.module_path, path)), None)
