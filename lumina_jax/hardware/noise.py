"""Parameters of the analog noise."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from .._arguments import choice, instance, number, real
from ..physics import Receiver, relative_intensity_noise
from ..physics._constants import root
from ..physics.receiver import MAX_POWER_W

Detection: TypeAlias = Literal["direct", "balanced", "homodyne"]
Unit: TypeAlias = Literal["signal", "full_scale"]
"""What the numbers of a `NoiseModel` are counted in."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """Standard deviations of the noise that an optical matmul adds to its output y.

        unit="signal"        σ²      = thermal² + shot²·|y| + relative²·y² + weight²·Σ_k x_q²
        unit="full_scale"    (σ/F)²  = thermal² + shot²·|y/F| + relative²·(y/F)² + weight²·Σ_k x_q²

    where F is the full scale of the ADC that reads y. A receiver has its noise in parts of what it
    can read, whatever the layer before it computes, so measured and computed noise is of the second
    kind; the first is for noise that is stated in the numbers of the model.

    A pytree of its four numbers: they are Python numbers or scalar arrays, and may be traced, so
    that a noise schedule does not compile anew and each has a gradient. The unit is static.

    Where `weight` is the number 0, not an array, the backward pass need not draw the noise again.

    Raises:
        TypeError, ValueError: a number is negative, or not finite; `relative` is above 1; the unit
            is neither of the two. Values that are traced are trusted.
    """

    relative: float | jax.Array = 0.0
    """Multiplicative noise such as laser intensity noise, as a fraction of y, 0 to 1 (no unit)."""
    shot: float | jax.Array = 0.0
    """Shot noise, as the standard deviation at |y| = 1, or at |y| = F in parts of F (square root of
    the unit of y, or no unit)."""
    thermal: float | jax.Array = 0.0
    """Additive receiver noise (unit of y, or parts of F)."""
    weight: float | jax.Array = 0.0
    """Fresh additive noise of every weight: a Gaussian of std weight·‖x_q‖ on y (unit of w, or
    parts of F for each unit of x)."""
    unit: Unit = "signal"
    """Whether the numbers are in the unit of y, or in parts of the full scale of the ADC."""

    def __post_init__(self) -> None:
        choice("NoiseModel", "unit", self.unit, Unit)
        for name in _NUMBERS:
            value = getattr(self, name)
            # Trees of axes and of shardings are of this class too.
            if isinstance(value, int | float | str | np.number):
                number("NoiseModel", name, value, at_least=0)
        if isinstance(self.relative, int | float | np.number) and self.relative > 1:
            raise ValueError(
                f"NoiseModel: `relative` must be at most 1, got {self.relative:g}; it is a "
                f"fraction of y, so 15 % is 0.15"
            )

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], Unit]:
        """The four numbers, and the unit."""
        key = jax.tree_util.GetAttrKey
        return tuple((key(name), getattr(self, name)) for name in _NUMBERS), self.unit

    @classmethod
    def tree_unflatten(cls, unit: Unit, numbers: Any) -> Self:
        """From what JAX puts in place of the numbers, such as gradients, which may be negative."""
        noise = object.__new__(cls)
        for name, value in zip(_NUMBERS, numbers, strict=True):
            object.__setattr__(noise, name, value)
        object.__setattr__(noise, "unit", unit)
        return noise

    def to_signal(self, y_full_scale: ArrayLike) -> NoiseModel:
        """The same noise in the unit of y, behind an ADC of this full scale; scalar above 0.

            thermal·F        shot·√F        relative        weight·F

        Noise that is in the unit of y already stays as it is, and so does the number 0.
        Differentiable in the full scale.
        """
        if self.unit == "signal":
            return self
        return self._in_units_of("NoiseModel.to_signal", "y_full_scale", y_full_scale, "signal")

    def to_full_scale(self, y_full_scale: ArrayLike) -> NoiseModel:
        """The same noise in parts of this full scale of the ADC: the inverse of `to_signal`.

        Noise that is in parts of a full scale already stays as it is.
        """
        if self.unit == "full_scale":
            return self
        name = "NoiseModel.to_full_scale"
        full_scale = real(name, "y_full_scale", y_full_scale, above=0)
        return self._in_units_of(name, "y_full_scale", 1 / full_scale, "full_scale")

    def scaled(self, factor: ArrayLike) -> NoiseModel:
        """The same noise where y is counted in other units, `factor`·y; factor above 0.

        thermal·factor, shot·√factor; relative stays; weight·factor, as w is counted in y per x.
        The number 0 stays that number. Parts of a full scale are the same in all units.
        """
        factor = real("NoiseModel.scaled", "factor", factor, above=0)
        if self.unit == "full_scale":
            return self
        return self._in_units_of("NoiseModel.scaled", "factor", factor, "signal")

    def _in_units_of(self, op: str, name: str, factor: ArrayLike, unit: Unit) -> NoiseModel:
        factor = real(op, name, factor, at_least=0)
        return replace(
            self,
            shot=times(self.shot, root(factor)),
            thermal=times(self.thermal, factor),
            weight=times(self.weight, factor),
            unit=unit,
        )

    @classmethod
    def from_receiver(
        cls,
        receiver: Receiver,
        *,
        power_w: ArrayLike,
        y_full_scale: ArrayLike | None = None,
        detection: Detection = "direct",
        light: ArrayLike | None = None,
        weight_norm: ArrayLike | None = None,
    ) -> Self:
        """The noise of a physical receiver; differentiable in every argument.

        The optical power P makes the photocurrent I = M·R·P, and that current reads as the full
        scale of y: one ampere is s = y_fs/I of y. With the noises of `Receiver`, where i_d is that
        of the dark current of one photodiode,

            direct      thermal = s·√(i_d² + i_th²)                        shot = s·i_sh(P)/√y_fs
            balanced    thermal = s·√(i_sh²(light·P) + 2·i_d² + i_th²)     shot = 0
            homodyne    thermal = s·√(2·i_d² + i_th²)          weight = ‖w_n‖/√(R·P/(2q·B·F))

        and relative = √(10^(RIN/10)·B) in all of them. Without `y_full_scale` the noise is in parts
        of the full scale that the ADC has where the noise is added, y_fs = 1: every layer has its
        own, and the receiver is matched to it. With it the noise is in the unit of y.

        direct: one photodiode sees y itself. balanced: two see all the light, and their difference
        is y, so shot noise does not depend on y: of add-drop rings, `light` = Σ_j x_j/y_fs, and of
        two arms, `light` = |x|·|W|/y_fs, each a mean over the data or, under `vmap` over the rows
        of x, that of each row. homodyne: fields interfere and are integrated over the products, P
        is the mean power of both, and y_fs = ‖w_n‖·‖x‖ is where they overlap fully; `weight_norm`
        is ‖w_n‖, the root mean square over the columns where they differ (Hamerly et al., Phys.
        Rev. X 9, 021032 (2019), σ = ‖w_n‖·‖x‖/√(K·n_mac)).

        Args:
            receiver: photodiodes and amplifier.
            power_w: P, W; scalar above 0.
            y_full_scale: y_fs, unit of y; scalar above 0. None: the result is in parts of it.
            detection: "direct", "balanced" or "homodyne".
            light: optical power on both photodiodes together over P, not negative; "balanced"
                only, where None is 1.
            weight_norm: ‖w_n‖, unit of w, above 0; needed for "homodyne", which alone takes it. In
                parts of y_fs, for each unit of x, where that is not given.

        Raises:
            TypeError, ValueError: `receiver` is no Receiver; another argument is not a number, is
                out of its range, or does not belong to that kind of detection.
        """
        name = "NoiseModel.from_receiver"
        instance(name, "receiver", receiver, Receiver, "a Receiver")
        known = ("direct", "balanced", "homodyne")
        if not isinstance(detection, str) or detection not in known:
            raise ValueError(
                f"{name}: `detection` must be direct, balanced or homodyne, got {detection!r}"
            )
        if light is not None and detection != "balanced":
            raise ValueError(f"{name}: `light` is for balanced detection, got {detection!r}")
        if (weight_norm is not None) != (detection == "homodyne"):
            raise ValueError(
                f"{name}: `weight_norm` is for homodyne detection and needed there, "
                f"got {weight_norm!r} for {detection!r}"
            )
        power = real(name, "power_w", power_w, above=0, at_most=MAX_POWER_W)
        unit: Unit = "full_scale" if y_full_scale is None else "signal"
        full_scale = real(
            name, "y_full_scale", 1.0 if y_full_scale is None else y_full_scale, above=0
        )
        per_ampere = full_scale / receiver.current(power)
        relative = relative_intensity_noise(receiver.rin_db_per_hz, receiver.bandwidth_hz)
        if detection == "direct":
            shot = receiver.shot_noise(power) * per_ampere / root(full_scale)
            thermal = receiver.dark_noise() * per_ampere
            return cls(relative=relative, shot=shot, thermal=thermal, unit=unit)
        dark = receiver.dark_noise(photodiodes=2)
        if detection == "homodyne":
            norm = real(name, "weight_norm", weight_norm, above=0)
            weight = norm * per_ampere * receiver.shot_noise(power) / full_scale
            return cls(relative=relative, thermal=dark * per_ampere, weight=weight, unit=unit)
        share = real(name, "light", 1.0 if light is None else light, at_least=0)
        lit = receiver.shot_noise(power * share)
        return cls(relative=relative, thermal=root(lit**2 + dark**2) * per_ampere, unit=unit)


_NUMBERS = tuple(field.name for field in fields(NoiseModel) if field.name != "unit")


def is_known_zero(std: Any) -> bool:
    """Whether a field of a `NoiseModel` is the number 0, which is known when tracing."""
    return isinstance(std, int | float | np.number) and bool(std == 0)


def is_quiet(noise: NoiseModel) -> bool:
    """Whether there is no noise, which is known when tracing."""
    return all(is_known_zero(getattr(noise, name)) for name in _NUMBERS)


def times(std: float | jax.Array, factor: jax.Array) -> float | jax.Array:
    """A field of a `NoiseModel` times a factor; the number 0 stays that number."""
    return std if is_known_zero(std) else std * factor
