"""Layers for PyTorch on a simulated photonic processor; importing this imports PyTorch."""

# Where PyTorch is not installed, a type checker takes the module `torch` beside this one for it.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch

from .._arguments import choice
from ..custom_vjp._chain import device_of
from ..hardware.noise import NoiseModel
from ..hardware.profiles import HardwareProfile
from ..spec import OpticalSpec, op_bits
from ._ops import optical_matmul
from ._torch import uncompiled

__all__ = ["OpticalLinear"]

RangeMode: TypeAlias = Literal["calibrate", "learn", "dynamic"]

_QUIET = NoiseModel()


class OpticalLinear(torch.nn.Linear):
    """`torch.nn.Linear` on a photonic device: DAC, analog matmul with noise, ADC.

        out = optical_matmul(input, weightᵀ, bias)

    Parameters are those of `torch.nn.Linear`: names, shapes, and for the same random state the same
    initial values, so a state of a `Linear` loads. It is a `Linear` in other respects, too.

    Parameters, only with `ranges="learn"`: `x_log_gain`, `y_log_gain` [], the natural logarithm of
    a factor on the full scales.
    Buffers, only for converters that are on, and not with `ranges="dynamic"`: `x_full_scale`,
    `y_full_scale` f32[], the full scales of DAC and ADC; 0 until calibrated. That of the ADC is
    there too where noise is in parts of it. A `Linear` loads a state that has them with
    `strict=False`.

    In training, noise is drawn and the full scales follow the largest input and output of each
    batch; after `eval()` there is no noise and they stay. Until the first batch in training, each
    is converted at its own range. Noise of a call is drawn from a seed that `torch.manual_seed` or
    `generator` determine, or from `seed` of that call.

    Args:
        in_features, out_features, bias, device, dtype: as in `torch.nn.Linear`. The op runs on the
            CPU, in float32.
        profile: the processor, a preset's name, or None: an ideal one.
        spec: bits of the converters; None: those of the profile.
        noise: noise of the device; None: that of the profile.
        ranges: "calibrate": full scales are running averages. "learn": times a factor that is
            trained. "dynamic": each batch is converted at its own range, and there is no state.
        momentum: share of the old full scale in the next one, 0 to 1.
        generator: what seeds are drawn from; None: that of `torch.manual_seed`.

    Raises:
        TypeError, ValueError: an argument is none of these, or the preset is unknown. In a call:
            input or parameters are not float32, or not on the CPU; shapes do not fit.
    """

    x_full_scale: torch.Tensor
    y_full_scale: torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        profile: HardwareProfile | str | None = "lumina_nano_v1",
        spec: OpticalSpec | None = None,
        noise: NoiseModel | None = None,
        ranges: RangeMode = "calibrate",
        momentum: float = 0.95,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        name = type(self).__name__
        choice(name, "ranges", ranges, RangeMode)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"{name}: `momentum` is {momentum!r}, expected 0 <= momentum < 1")
        if profile is None and spec is None:
            spec = OpticalSpec()
        known = device_of(name, profile, spec, noise)
        self.profile, self.spec, self.noise = known.profile, known.spec, known.noise
        self.ranges, self.momentum, self.generator = ranges, momentum, generator
        in_parts = self.noise is not None and self.noise.unit == "full_scale"
        has_adc = bool(op_bits(self.spec.adc_bits)) or in_parts
        converters = {"x": bool(op_bits(self.spec.dac_bits)), "y": has_adc}
        self._signals = tuple(signal for signal, is_on in converters.items() if is_on)
        for signal in self._signals if ranges != "dynamic" else ():
            scale = torch.zeros((), device=device, dtype=torch.float32)
            self.register_buffer(f"{signal}_full_scale", scale)
            if ranges == "learn":
                self.register_parameter(
                    f"{signal}_log_gain", torch.nn.Parameter(torch.zeros_like(scale))
                )
        self.register_load_state_dict_pre_hook(_with_own_ranges)

    @uncompiled
    def forward(
        self,
        input: torch.Tensor,  # noqa: A002, its name in PyTorch
        *,
        seed: int | None = None,
        deterministic: bool | None = None,
    ) -> torch.Tensor:
        """Converts, multiplies and reads out.

        Args:
            input: f32[..., in_features].
            seed: of the noise of this call, from 0 to 2^64 - 1; None: one is drawn.
            deterministic: no noise, and full scales stay as they are; None: unless in training.

        Returns:
            f32[..., out_features].
        """
        self._check_parameters()
        if deterministic is None:
            deterministic = not self.training
        follows = self.training and not deterministic and self.ranges != "dynamic"
        x_scale, y_scale = self._full_scales(input, warns=deterministic and not self.training)
        noise = None if deterministic else self.noise
        if seed is None and not deterministic and self._draws:
            seed = int(torch.randint(2**63 - 1, (), generator=self.generator, device="cpu"))
        out, *peaks = self._product(
            input,
            spec=self.spec,
            noise=_QUIET if noise is None else noise,
            seed=seed,
            x_full_scale=x_scale,
            y_full_scale=y_scale,
            return_peak=follows and "y" in self._signals,
            return_x_peak=follows and "x" in self._signals,
        )
        # The op returns the peak of y before that of x.
        for signal, peak in zip(reversed(self._signals), peaks, strict=False):
            self._follow(signal, _largest(peak))
        return out

    def extra_repr(self) -> str:
        """Shape and device."""
        device = "ideal" if self.profile is None else self.profile.name
        return f"{super().extra_repr()}, device={device!r}, ranges={self.ranges!r}"

    @property
    def _draws(self) -> bool:
        return self.noise is not None or self.spec.grad_precision == "int8"

    def _product(self, x: torch.Tensor, **options: Any) -> tuple[torch.Tensor, ...]:
        results = optical_matmul(x, self.weight.T, self.bias, profile=self.profile, **options)
        return results if isinstance(results, tuple) else (results,)

    def _full_scales(self, x: torch.Tensor, *, warns: bool) -> tuple[Any, Any]:
        """Of the DAC and of the ADC, those of this batch where none is known; None is none."""
        x_scale = y_scale = None
        if "x" in self._signals:
            x_scale = self._known("x")
            if x_scale is None:
                x_scale = _largest(x.detach().abs())
        if "y" in self._signals:
            y_scale = self._known("y")
            if y_scale is None:
                # A range is not differentiated, so no precision of a gradient may ask for a seed.
                before_adc = replace(self.spec, adc_bits=None, grad_precision="float32")
                with torch.no_grad():
                    _, peak = self._product(
                        x, spec=before_adc, noise=_QUIET, x_full_scale=x_scale, return_peak=True
                    )
                y_scale = _largest(peak)
        if warns and self.ranges != "dynamic" and not self._is_calibrated:
            warnings.warn(
                f"{type(self).__name__}: its ranges are not calibrated, so each batch is converted "
                f"at its own and an output depends on the other rows; first run training batches, "
                f"after model.train()",
                stacklevel=2,
            )
        return self._with_gain("x", x_scale), self._with_gain("y", y_scale)

    @property
    def _is_calibrated(self) -> bool:
        return all(self._known(signal) is not None for signal in self._signals)

    def _known(self, signal: str) -> torch.Tensor | None:
        scale = getattr(self, f"{signal}_full_scale", None)
        # A copy, as the gradient looks at the scale that was, and the buffer follows meanwhile.
        return scale.clone() if scale is not None and scale > 0 else None

    def _with_gain(self, signal: str, scale: torch.Tensor | None) -> torch.Tensor | None:
        gain = getattr(self, f"{signal}_log_gain", None)
        return scale if scale is None or gain is None else scale * gain.exp()

    @torch.no_grad()
    def _follow(self, signal: str, largest: torch.Tensor) -> None:
        """The running full scale after a batch with that largest magnitude, if it has one."""
        scale = getattr(self, f"{signal}_full_scale")
        if largest > 0:
            blended = self.momentum * scale + (1.0 - self.momentum) * largest
            scale.copy_(blended if scale > 0 else largest)

    def _check_parameters(self) -> None:
        for name, value in (("weight", self.weight), ("bias", self.bias)):
            if value is None:
                continue
            if value.dtype != torch.float32:
                raise TypeError(
                    f"{type(self).__name__}: `{name}` is {value.dtype}, expected torch.float32, "
                    f"which the device computes in; bring the layer back with .float()"
                )
            if value.device.type != "cpu":
                raise ValueError(
                    f"{type(self).__name__}: `{name}` is on {value.device}, expected the CPU, "
                    f"where the device is simulated; bring the layer back with .cpu()"
                )


def _largest(magnitudes: torch.Tensor) -> torch.Tensor:
    """The largest finite one, f32[]; 0 where there is none."""
    finite = torch.where(magnitudes.isfinite(), magnitudes, 0.0)
    return finite.max() if finite.numel() else torch.zeros(())


def _with_own_ranges(layer: OpticalLinear, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A state of a `Linear` leaves ranges and gains as they are."""
    for signal in layer._signals:
        for name in (f"{signal}_full_scale", f"{signal}_log_gain"):
            value = getattr(layer, name, None)
            if value is not None:
                state.setdefault(prefix + name, value)
