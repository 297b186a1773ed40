"""`OpticalEmbed` for Flax Linen."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.linear import default_embed_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode, check_input, check_size, to_f32
from ..ranges import AxisName, calibrated_matmul
from ._layer import run


class OpticalEmbed(nn.Module):
    """`flax.linen.Embed` whose `attend` is a product on a photonic device.

    A call looks rows up, which is no product and stays digital. `attend` multiplies by the
    transposed table, x·embeddingᵀ, as the tied output of a language model does.

    Parameters, collection "params":
        embedding [num_embeddings, features]: as in `nn.Embed`, so its checkpoints fit.
        x_log_gain, y_log_gain []: only with `ranges="learn"`; log of a factor on the full scales.
    Variables, collection "ranges", only where `attend` is used and for converters that are on:
        x_full_scale, y_full_scale f32[]: full scale of the DAC and of the ADC; 0 until calibrated.

    Args:
        num_embeddings: rows of the table, which are the outputs of `attend`.
        features: columns of the table.
        profile, spec, noise, ranges, momentum, deterministic, axis_name: as in `OpticalDense`.
        param_dtype, embedding_init: as in `nn.Embed`; the device computes in float32.

    Raises:
        ValueError: indices are no integers; and as `OpticalDense`.
        TypeError: as `OpticalDense`.
        flax.errors.InvalidRngError: noise is to be drawn and there is no stream "noise".
    """

    num_embeddings: int
    features: int
    profile: HardwareProfile | str | None = "lumina_nano_v1"
    spec: OpticalSpec | None = None
    noise: NoiseModel | None = None
    ranges: RangeMode = "calibrate"
    momentum: float = 0.95
    deterministic: bool = False
    param_dtype: Dtype = jnp.float32
    embedding_init: Initializer = default_embed_init
    axis_name: AxisName | None = None

    def setup(self) -> None:
        """Makes the table."""
        name = type(self).__name__
        check_size(name, "num_embeddings", self.num_embeddings)
        check_size(name, "features", self.features)
        shape = (self.num_embeddings, self.features)
        self.embedding = self.param("embedding", self.embedding_init, shape, self.param_dtype)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The rows i32[...] of the table: [..., features]."""
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            name = type(self).__name__
            raise ValueError(f"{name}: `inputs` is {inputs.dtype}, expected integers")
        return jnp.take(self.embedding, inputs, axis=0)

    @nn.compact
    def attend(
        self,
        query: jax.Array,
        *,
        deterministic: bool | None = None,
        noise: NoiseModel | None = None,
    ) -> jax.Array:
        """Converts, multiplies by the transposed table and reads out.

        Args:
            query: f32[..., features].
            deterministic: takes precedence over the field.
            noise: takes precedence over the field and the profile; its values may be traced.

        Returns:
            f32[..., num_embeddings].
        """
        name = type(self).__name__
        x = check_input(name, query, self.features)
        kernel = to_f32(name, "embedding", self.embedding).T
        return run(
            self, calibrated_matmul, x, kernel, None, deterministic=deterministic, noise=noise
        )
