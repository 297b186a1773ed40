"""The package `flax_layers`: Flax layers whose matmul runs on a noisy photonic device."""

from typing import TYPE_CHECKING

from ._siblings import adopt

if TYPE_CHECKING:
    from flax_layers import *  # noqa: F403
    from flax_layers import linen as linen
    from flax_layers import nnx as nnx

adopt(__name__, "flax_layers", "linen", "nnx")
