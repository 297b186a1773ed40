"""A simulated processor as the products of a namespace see it: which ones it runs, and its ranges.

    optical     factors of f32, c64 or another inexact type, on any device but the ideal one
    digital     integers and bools, and everything on the ideal device, whose products are exact

The left factor is the signal and the right one the weights, which the processor loads once for each
matrix. What the light loses on its way is given back behind the ADC, as a receiver's gain does.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._values import is_traced
from ..custom_vjp.complex_optical_matmul import complex_optical_matmul
from ..custom_vjp.optical_matmul import optical_matmul
from ..hardware.noise import NoiseModel, is_quiet
from ..hardware.profiles import HardwareProfile, profile_of
from ..ops._complex import floats
from ..ops.quantize import absmax

_NAME = "array_api"

Bank: TypeAlias = tuple[str, int, int]
"""What a product is known by: the type of its numbers, and the shape [k, n] of its weights."""


class Ranges(NamedTuple):
    """Full scales of the converters of signals and of outputs, f32[]; None is to be found."""

    x: Any = None
    y: Any = None


class Device:
    """A processor, or with profile None the ideal one. Its ranges are all that changes."""

    def __init__(self, profile: HardwareProfile | str | None) -> None:
        self.profile = None if profile is None else profile_of(f"{_NAME}.namespace", profile)
        self.ranges: dict[Bank, Ranges] = {}
        """Those that a calibration found."""
        self.calibrations = 0
        self._seen: dict[Bank, Ranges] | None = None
        self._recording = threading.Lock()

    @property
    def name(self) -> str:
        return "ideal" if self.profile is None else self.profile.name

    @property
    def draws_noise(self) -> bool:
        return self.profile is not None and not is_quiet(self.profile.noise)

    def runs(self, *factors: jax.Array) -> bool:
        """Whether the product of `factors` is optical."""
        if self.profile is None:
            return False
        return bool(jnp.issubdtype(jnp.result_type(*factors), jnp.inexact))

    def matmul(self, x: jax.Array, w: jax.Array, draw: Callable[[], jax.Array]) -> jax.Array:
        """The optical `x @ w`, with the shapes and the type that the standard gives it."""
        _check_shapes(x, w)
        dtype = jnp.result_type(x, w)
        number = "complex64" if jnp.issubdtype(dtype, jnp.complexfloating) else "float32"
        depth, columns = (*w.shape, 1)[:2] if w.ndim == 1 else w.shape[-2:]
        bank = number, depth, columns
        assert self.profile is not None
        key = draw() if self.draws_noise else None
        product = _compiled(self.profile, number, str(dtype))
        out, seen = product(x, w, key, self.ranges.get(bank, Ranges()))
        if self._seen is not None:
            self._record(bank, seen)
        return out

    @contextlib.contextmanager
    def calibrate(self) -> Iterator[None]:
        """Within it every product finds its own ranges; behind it they are the largest of those."""
        if self._seen is not None:
            raise ValueError(f"{_NAME}: calibrate() within calibrate() of the same device")
        before, self.ranges, self._seen = self.ranges, {}, {}
        found = before
        try:
            yield
            found = {bank: Ranges(*map(jnp.float32, seen)) for bank, seen in self._seen.items()}
        finally:
            self.ranges, self._seen = found, None
            self.calibrations += 1

    def _record(self, bank: Bank, seen: Ranges) -> None:
        assert self._seen is not None
        if any(map(is_traced, seen)):
            raise ValueError(
                f"{_NAME}: a product within jit, grad or vmap cannot be calibrated, as its values "
                f"are not known; run it within calibrate() as it is"
            )
        with self._recording:
            before = self._seen.get(bank, Ranges(0.0, 0.0))
            largest = (max(a, float(b)) for a, b in zip(before, seen, strict=True))
            self._seen[bank] = Ranges(*largest)


def _check_shapes(x: jax.Array, w: jax.Array) -> None:
    depths = x.shape[-1:], w.shape[-2:][:1]
    if depths[0] and depths[0] == depths[1]:
        with contextlib.suppress(ValueError):
            np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
            return
    raise ValueError(
        f"{_NAME}: matmul of shapes {x.shape} and {w.shape}; expected (..., m, k) and (..., k, n), "
        f"or (k,) for one of them"
    )


@functools.cache
def _compiled(profile: HardwareProfile, number: str, dtype: str) -> Callable[..., Any]:
    return jax.jit(_Product(profile, number, dtype))


@dataclass(frozen=True)
class _Product:
    """`x @ w` on a processor, and the ranges that its converters had."""

    profile: HardwareProfile
    number: str
    """The type of signals and weights."""
    dtype: str
    """The type of the result."""

    def __call__(
        self, x: jax.Array, w: jax.Array, key: jax.Array | None, ranges: Ranges
    ) -> tuple[jax.Array, Ranges]:
        x, w = x.astype(self.number), w.astype(self.number)
        added = *([-2] if x.ndim == 1 else []), *([-1] if w.ndim == 1 else [])
        x = x[None] if x.ndim == 1 else x
        w = w[:, None] if w.ndim == 1 else w
        run = self._run
        if w.ndim > 2:
            run = self._of_many
            outer = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
            x, w = (jnp.broadcast_to(a, (*outer, *a.shape[-2:])) for a in (x, w))
        x_range, y_range = ranges
        if x_range is None:
            x_range = absmax(floats(x) if self._is_complex else x)
        if y_range is None:
            y_range = jnp.max(run(x, w, None, x_range, None), initial=np.float32(0))
        out = run(x, w, key, x_range, y_range)
        power = self.profile.path.transmission
        kept = math.sqrt(power) if self._is_complex else power
        out = out if kept == 1.0 else out / kept
        return out.squeeze(added).astype(self.dtype), Ranges(x_range, y_range)

    @property
    def _is_complex(self) -> bool:
        return self.number == "complex64"

    def _run(
        self,
        x: jax.Array,
        w: jax.Array,
        key: jax.Array | None,
        x_range: jax.Array,
        y_range: jax.Array | None,
    ) -> jax.Array:
        """`x @ w` of [..., m, k] and [k, n]; without `y_range` the largest |y| of each row."""
        op = complex_optical_matmul if self._is_complex else optical_matmul
        op = functools.partial(op, x, w, profile=self.profile, x_full_scale=x_range)
        if y_range is not None:
            return op(y_full_scale=y_range, key=key)
        before_adc = replace(self.profile.spec, adc_bits=None)
        return op(spec=before_adc, noise=NoiseModel(), return_peak=True)[1]

    def _of_many(
        self, x: jax.Array, w: jax.Array, key: jax.Array | None, *ranges: Any
    ) -> jax.Array:
        """`_run` of [..., m, k] and [..., k, n], each matrix with noise of its own."""
        outer = x.shape[:-2]
        many = math.prod(outer)
        x, w = (a.reshape(many, *a.shape[-2:]) for a in (x, w))
        keys = None if key is None else jax.random.split(key, many)
        out = jax.vmap(lambda x, w, key: self._run(x, w, key, *ranges))(x, w, keys)
        return out.reshape(*outer, *out.shape[1:])
