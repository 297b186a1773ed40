"""`OpticalEmbed` of both families: Flax's `Embed`, whose `attend` is an optical product."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from flax_layers import linen, nnx
from lumina_jax import OpticalSpec, optical_matmul

TOKENS = jnp.array([[0, 3, 2], [1, 1, 6]])
QUERY = jax.random.normal(jax.random.key(1), (2, 3, 5))


def pair(family: str, **options: Any) -> tuple[Any, Any, Any]:
    """Flax's layer and the optical one as functions (method, input), and their table."""
    if family == "nnx":
        plain = flax_nnx.Embed(7, 5, rngs=flax_nnx.Rngs(0))
        layer = nnx.OpticalEmbed(7, 5, rngs=flax_nnx.Rngs(0), deterministic=True, **options)
        np.testing.assert_array_equal(layer.embedding[...], plain.embedding[...])
        table = plain.embedding[...]
        return lambda m, x: getattr(plain, m)(x), lambda m, x: getattr(layer, m)(x), table
    plain = nn.Embed(7, 5)
    layer = linen.OpticalEmbed(7, 5, deterministic=True, **options)
    variables = layer.init(jax.random.key(0), QUERY, method="attend")
    reference = plain.init(jax.random.key(0), TOKENS)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], reference["params"])
    return (
        lambda m, x: plain.apply(reference, x, method=m),
        lambda m, x: layer.apply(variables, x, method=m),
        reference["params"]["embedding"],
    )


@pytest.mark.parametrize("family", ["linen", "nnx"])
def test_without_converters_it_is_that_of_flax(family: str) -> None:
    plain, optical, _ = pair(family, profile=None)
    np.testing.assert_array_equal(optical("__call__", TOKENS), plain("__call__", TOKENS))
    # Sums of a few products that cancel keep the roundings of the products.
    np.testing.assert_allclose(
        optical("attend", QUERY), plain("attend", QUERY), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("family", ["linen", "nnx"])
def test_attend_is_the_product_with_the_transposed_table(family: str) -> None:
    spec = OpticalSpec(dac_bits=4, weight_bits=5)
    _, optical, table = pair(family, profile=None, spec=spec)
    np.testing.assert_array_equal(
        optical("attend", QUERY), optical_matmul(QUERY, table.T, spec=spec)
    )


@pytest.mark.parametrize("family", ["linen", "nnx"])
def test_indices_are_integers(family: str) -> None:
    _, optical, _ = pair(family)
    with pytest.raises(ValueError, match=r"^OpticalEmbed: `inputs` is float32, expected integers"):
        optical("__call__", QUERY)
    with pytest.raises(ValueError, match=r"expected \[\.\.\., in_features=5\]"):
        optical("attend", QUERY[..., :4])
