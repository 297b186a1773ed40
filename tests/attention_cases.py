"""The cases of attention, and its model: all scores in memory, in plain jnp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lumina_jax
from case import ROUNDING, Case, Gradient, converter
from lumina_jax import NoiseModel, OpticalSpec
from operands import SEED

SEED_STEP = 0xD1342543DE82EF95
NOISE = NoiseModel(thermal=0.1, shot=0.08, relative=0.05, weight=0.03)
RANGES = {
    "q_full_scale": 2.0,
    "k_full_scale": 2.2,
    "p_full_scale": 0.9,
    "v_full_scale": 1.9,
    "scores_full_scale": 6.0,
    "out_full_scale": 1.0,
}


def key_of(seed: int) -> jax.Array:
    """The key of that seed."""
    words = [seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF]
    return jax.random.wrap_key_data(jnp.array(words, jnp.uint32))


def attention_model(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    seen: np.ndarray,
    scale: Any,
    ranges: dict[str, Any],
    noise: NoiseModel | None,
    *,
    dac: int = 0,
    adc: int = 0,
) -> jax.Array:
    """Attention of q [m, t, h, d], k and v [m, s, h, ...] with `seen` [m or 1, h or 1, t]."""
    m, t, h, _ = q.shape
    s = k.shape[1]

    def chain(x: jax.Array, w: jax.Array, names: list[str], seed: int) -> jax.Array:
        x_range, w_range, y_range = (
            jnp.broadcast_to(ranges[f"{name}_full_scale"], (1, h, 1, 1)) for name in names
        )
        x = converter(x, jnp.broadcast_to(x_range, x.shape), dac)
        w = converter(w, jnp.broadcast_to(w_range, w.shape), dac)
        y = jnp.matmul(x, w, precision="highest")
        if noise is not None:
            power = (x**2).sum(-1, keepdims=True)
            variance = noise.thermal**2 + noise.shot**2 * jnp.abs(y) + noise.relative**2 * y**2
            eps = lumina_jax.optical_noise(key_of(seed), (m * h * t, y.shape[-1])).reshape(y.shape)
            y = y + jnp.sqrt(variance + noise.weight**2 * power) * jax.lax.stop_gradient(eps)
        return converter(y, jnp.broadcast_to(y_range, y.shape), adc)

    q, k, v = (jnp.moveaxis(value, 2, 1) for value in (q, k, v))
    scores = chain(q, jnp.swapaxes(k, -1, -2), ["q", "k", "scores"], SEED)
    keys = jnp.arange(s).reshape(1, 1, 1, s)
    visible = jnp.broadcast_to(keys < seen[..., None], scores.shape)
    p = jnp.where(visible, jax.nn.softmax(jnp.where(visible, scale * scores, -1e30)), 0)
    out = chain(p, v, ["p", "v", "out"], (SEED + SEED_STEP) % 2**64)
    out = jnp.where(jnp.broadcast_to(seen, (m, h, t))[..., None] > 0, out, 0)
    return jnp.moveaxis(out, 1, 2)


@dataclass(frozen=True, kw_only=True)
class _Attention:
    label: str
    shape: tuple[int, int, int, int, int, int] = (2, 9, 2, 5, 13, 6)
    """m, t, h, d, s, e"""
    dac: int = 0
    adc: int = 0
    noisy: bool = False
    offset: int = 2
    by_head: bool = False
    """Whether heads differ in what is seen, in ranges and in noise."""
    finds: bool = False
    peaks: bool = False
    ranges: bool = True
    tolerance: float = ROUNDING

    @property
    def attrs(self) -> dict[str, int | bool]:
        return {"dac_bits": self.dac, "adc_bits": self.adc, "noisy": self.noisy}

    def _sample(self) -> tuple[np.ndarray, ...]:
        m, t, h, d, s, e = self.shape
        rng = np.random.default_rng(self.shape)
        shapes = ((m, t, h, d), (m, s, h, d), (m, s, h, e))
        q, k, v = (rng.normal(0, 0.9, shape).astype(np.float32) for shape in shapes)
        lengths = rng.integers(0, s + 1, (m, h, 1) if self.by_head else (1, 1, 1))
        causal = np.arange(t) + 1 + self.offset
        seen = np.clip(np.minimum(causal, lengths if self.by_head else s), 0, s)
        return q, k, v, np.broadcast_to(seen, (*lengths.shape[:2], t)).astype(np.int32)

    def _operands(self) -> list[np.ndarray]:
        m, t, h, *_ = self.shape
        q, k, v, seen = self._sample()
        rng = np.random.default_rng(1)
        few = (m, h) if self.by_head else (1, 1)

        def spread(value: Any, *last: int) -> np.ndarray:
            factor = rng.uniform(0.7, 1.3, few).reshape(*few, *(1 for _ in last))
            return (value * (factor if self.by_head else np.ones_like(factor))).astype(np.float32)

        ranges = [
            np.ones((0, 1), np.float32) if self.finds and name[0] in "qkv" else spread(value)
            for name, value in RANGES.items()
        ]
        noise = np.zeros((1, 1, 2, 4), np.float32)
        seed, rows = np.zeros((1, 2), np.uint32), np.zeros((1, 1), np.uint32)
        if self.noisy:
            of_one = [NOISE.thermal, NOISE.shot, NOISE.relative, NOISE.weight]
            noise = spread(np.array([of_one, of_one]), 2, 4)
            seed = np.array([[SEED >> 32, SEED & 0xFFFFFFFF]], np.uint32)
            rows = (np.arange(m * h, dtype=np.uint32) * np.uint32(t)).reshape(m, h)
        scale = np.float32([0.4, 0.5][: m if self.by_head else 1])
        return [q, k, v, seen, scale, *ranges, noise, seed, rows]

    def forward(self) -> Case:
        return Case(
            op="optical_attention",
            label=self.label,
            operands=self._operands,
            attrs={**self.attrs, "with_peaks": self.peaks},
            tolerance=self.tolerance,
            gradient=None if self.by_head or self.finds or self.peaks else self._gradient,
        )

    def backward(self) -> Case:
        m, t, h, _, _, e = self.shape

        def operands() -> list[np.ndarray]:
            g = np.random.default_rng(2).normal(0, 1, (m, t, h, e)).astype(np.float32)
            return [g, *self._operands()]

        return Case(
            op="optical_attention_grad",
            label=self.label,
            operands=operands,
            attrs={**self.attrs, "with_ranges": self.ranges},
            tolerance=self.tolerance,
        )

    def _gradient(self) -> Gradient:
        q, k, v, seen = self._sample()
        spec = OpticalSpec(dac_bits=self.dac or None, adc_bits=self.adc or None)
        ranges = {name: np.float32(value) for name, value in RANGES.items()}
        noise = jax.tree.map(np.float32, NOISE) if self.noisy else None

        def function(
            q: jax.Array, k: jax.Array, v: jax.Array, scale: Any, ranges: Any, noise: Any
        ) -> jax.Array:
            return lumina_jax.optical_attention(
                q, k, v, spec=spec, causal=True, offset=self.offset, scale=scale, noise=noise,
                key=key_of(SEED) if self.noisy else None, **ranges,
            )  # fmt: skip

        def model(
            q: jax.Array, k: jax.Array, v: jax.Array, scale: Any, ranges: Any, noise: Any
        ) -> jax.Array:
            return attention_model(q, k, v, seen, scale, ranges, noise, dac=self.dac, adc=self.adc)

        arguments = (q, k, v, np.float32(0.4), ranges, noise)
        return Gradient(function=function, model=model, arguments=arguments)


_CASES = [
    _Attention(label="exact"),
    _Attention(label="exact, by head", by_head=True, shape=(2, 140, 3, 4, 150, 5), offset=0),
    _Attention(label="noisy", noisy=True),
    _Attention(label="integer", dac=8, adc=8, peaks=True),
    _Attention(label="integer, noisy", dac=6, adc=7, noisy=True, offset=-2),
    _Attention(
        label="integer, by head",
        dac=8,
        adc=6,
        noisy=True,
        by_head=True,
        finds=True,
        peaks=True,
        shape=(2, 150, 2, 3, 300, 260),
        offset=150,
        # Gradients of ranges are sums of up to 45,000 terms that cancel.
        tolerance=2e-5,
    ),
    _Attention(label="levels", dac=12, adc=10, finds=True),
    _Attention(label="exact, with peaks", peaks=True, ranges=False),
    _Attention(label="no keys", dac=8, adc=8, noisy=True, shape=(2, 3, 1, 4, 0, 5)),
    _Attention(label="no queries", dac=8, shape=(1, 0, 2, 4, 3, 5), finds=True),
]

ATTENTION: list[Case] = [case for one in _CASES for case in (one.forward(), one.backward())]
"""Every case of both ops."""
