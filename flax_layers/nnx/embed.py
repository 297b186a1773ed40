"""`OpticalEmbed` for Flax NNX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_embed_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode, check_size, to_f32
from ..ranges import AxisName, calibrated_matmul
from ._layer import OpticalLayer


class OpticalEmbed(OpticalLayer):
    """`flax.nnx.Embed` whose `attend` is a product on a photonic device.

    A call looks rows up, which is no product and stays digital. `attend` multiplies by the
    transposed table, x·embeddingᵀ, as the tied output of a language model does.

    State:
        embedding [num_embeddings, features]: `nnx.Param`, as in `nnx.Embed`.
        x_full_scale, y_full_scale, x_log_gain, y_log_gain, rngs: as in `OpticalDense`.

    Args:
        num_embeddings: rows of the table, which are the outputs of `attend`.
        features: columns of the table.
        profile, spec, noise, ranges, momentum, deterministic, use_running_average, axis_name: as in
            `OpticalDense`.
        param_dtype, embedding_init: as in `nnx.Embed`; the device computes in float32.
        rngs: streams "params", and "noise" where noise is to be drawn or gradients are "int8".

    Raises:
        ValueError: indices are no integers; and as `OpticalDense`.
        TypeError: as `OpticalDense`.
    """

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        *,
        profile: HardwareProfile | str | None = "lumina_nano_v1",
        spec: OpticalSpec | None = None,
        noise: NoiseModel | None = None,
        ranges: RangeMode = "calibrate",
        momentum: float = 0.95,
        deterministic: bool = False,
        use_running_average: bool = False,
        param_dtype: Dtype = jnp.float32,
        embedding_init: Initializer = default_embed_init,
        axis_name: AxisName | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        name = type(self).__name__
        check_size(name, "num_embeddings", num_embeddings)
        check_size(name, "features", features)
        shape = (num_embeddings, features)
        self.embedding = nnx.Param(embedding_init(rngs.params(), shape, param_dtype))
        self.num_embeddings = num_embeddings
        self.features = features
        super().__init__(
            profile=profile,
            spec=spec,
            noise=noise,
            ranges=ranges,
            momentum=momentum,
            deterministic=deterministic,
            use_running_average=use_running_average,
            axis_name=axis_name,
            rngs=rngs,
        )

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The rows i32[...] of the table: [..., features]."""
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            name = type(self).__name__
            raise ValueError(f"{name}: `inputs` is {inputs.dtype}, expected integers")
        return jnp.take(self.embedding[...], inputs, axis=0)

    def attend(
        self,
        query: jax.Array,
        *,
        deterministic: bool | None = None,
        use_running_average: bool | None = None,
        noise: NoiseModel | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
        out_sharding: None = None,
    ) -> jax.Array:
        """Converts, multiplies by the transposed table and reads out.

        Args:
            query: f32[..., features].
            deterministic, use_running_average: as the attributes.
            noise: stands in for the noise of the device; its values may be traced.
            rngs: where the key of the noise comes from: streams, one stream, or the key itself.
            out_sharding: None; what calls a layer of Flax may give it.

        Returns:
            f32[..., num_embeddings].
        """
        name = type(self).__name__
        return self._run(
            calibrated_matmul,
            self._input(query, self.features),
            to_f32(name, "embedding", self.embedding[...]).T,
            None,
            deterministic=deterministic,
            use_running_average=use_running_average,
            noise=noise,
            rngs=rngs,
            out_sharding=out_sharding,
        )
