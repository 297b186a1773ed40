"""Parameters of the analog noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from .._arguments import instance, real
from ..physics import Receiver, relative_intensity_noise
from ..physics._constants import root

Detection: TypeAlias = Literal["direct", "balanced", "homodyne"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """Standard deviations of the noise that an optical matmul adds to its output y.

        σ² = thermal² + shot²·|y| + relative²·y² + weight²·Σ_k x_q²

    A pytree: the fields are Python numbers or scalar arrays, and may be traced, so that a noise
    schedule does not compile anew and each field has a gradient. None of them may be negative.

    Where `weight` is the number 0, not an array, the backward pass need not draw the noise again.
    """

    relative: float | jax.Array = 0.0
    """Multiplicative noise such as laser intensity noise, as a fraction of y (no unit)."""
    shot: float | jax.Array = 0.0
    """Shot noise, as the standard deviation at |y| = 1 (square root of the unit of y)."""
    thermal: float | jax.Array = 0.0
    """Additive receiver noise (unit of y)."""
    weight: float | jax.Array = 0.0
    """Fresh additive noise of every weight (unit of w): a Gaussian of std weight·‖x_q‖ on y."""

    def scaled(self, factor: ArrayLike) -> NoiseModel:
        """The same noise where y is counted in other units, `factor`·y; factor above 0.

        thermal·factor, shot·√factor; relative stays; weight·factor, as w is counted in y per x.
        The number 0 stays that number.
        """
        factor = real("NoiseModel.scaled", "factor", factor, above=0)
        return NoiseModel(
            relative=self.relative,
            shot=times(self.shot, root(factor)),
            thermal=times(self.thermal, factor),
            weight=times(self.weight, factor),
        )

    @classmethod
    def from_receiver(
        cls,
        receiver: Receiver,
        *,
        power_w: ArrayLike,
        y_full_scale: ArrayLike,
        detection: Detection = "direct",
        light: ArrayLike | None = None,
        weight_norm: ArrayLike | None = None,
    ) -> Self:
        """The noise of a physical receiver, in the units of y; differentiable in every argument.

        The optical power P makes the photocurrent I = M·R·P, and that current reads as the full
        scale of y: one ampere is s = y_fs/I of y. With the noises of `Receiver`, where i_d is that
        of the dark current of one photodiode,

            direct      thermal = s·√(i_d² + i_th²)                        shot = s·i_sh(P)/√y_fs
            balanced    thermal = s·√(i_sh²(light·P) + 2·i_d² + i_th²)     shot = 0
            homodyne    thermal = s·√(2·i_d² + i_th²)          weight = ‖w_n‖/√(R·P/(2q·B·F))

        and relative = √(10^(RIN/10)·B) in all of them. The units of y are those that the matmul
        computes in, so y_fs is its `y_full_scale` where the ADC takes the whole photocurrent.

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
            y_full_scale: y_fs, unit of y; scalar above 0.
            detection: "direct", "balanced" or "homodyne".
            light: optical power on both photodiodes together over P, not negative; "balanced"
                only, where None is 1.
            weight_norm: ‖w_n‖, unit of w, above 0; needed for "homodyne", which alone takes it.

        Raises:
            TypeError, ValueError: `receiver` is no Receiver; another argument is not a number, is
                out of its range, or does not belong to that kind of detection.
        """
        name = "NoiseModel.from_receiver"
        instance(name, "receiver", receiver, Receiver, "a Receiver")
        if detection not in ("direct", "balanced", "homodyne"):
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
        power = real(name, "power_w", power_w, above=0)
        full_scale = real(name, "y_full_scale", y_full_scale, above=0)
        per_ampere = full_scale / receiver.current(power)
        relative = relative_intensity_noise(receiver.rin_db_per_hz, receiver.bandwidth_hz)
        if detection == "direct":
            shot = receiver.shot_noise(power) * per_ampere / root(full_scale)
            return cls(relative=relative, shot=shot, thermal=receiver.dark_noise() * per_ampere)
        dark = receiver.dark_noise(photodiodes=2)
        if detection == "homodyne":
            norm = real(name, "weight_norm", weight_norm, above=0)
            weight = norm * per_ampere * receiver.shot_noise(power) / full_scale
            return cls(relative=relative, thermal=dark * per_ampere, weight=weight)
        share = real(name, "light", 1.0 if light is None else light, at_least=0)
        lit = receiver.shot_noise(power * share)
        return cls(relative=relative, thermal=root(lit**2 + dark**2) * per_ampere)


def is_known_zero(std: Any) -> bool:
    """Whether a field of a `NoiseModel` is the number 0, which is known when tracing."""
    return isinstance(std, int | float | np.number) and bool(std == 0)


def times(std: float | jax.Array, factor: jax.Array) -> float | jax.Array:
    """A field of a `NoiseModel` times a factor; the number 0 stays that number."""
    return std if is_known_zero(std) else std * factor
