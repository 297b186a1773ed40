"""Models written in Flax NNX as usual, which know nothing of optics: those of `linen_models`."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx


class ResidualBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, features: int, stride: int, *, rngs: nnx.Rngs) -> None:
        strides = (stride, stride)
        self.conv1 = nnx.Conv(inputs, features, (3, 3), strides, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(features, rngs=rngs)
        self.conv2 = nnx.Conv(features, features, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(features, rngs=rngs)
        self.shortcut = nnx.data(None)
        if inputs != features or stride != 1:
            self.shortcut = nnx.Sequential(
                nnx.Conv(inputs, features, (1, 1), strides, use_bias=False, rngs=rngs),
                nnx.BatchNorm(features, rngs=rngs),
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[n, h, w, c] -> f32[n, h/stride, w/stride, features]."""
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """ResNet-18 with a 3x3 stem, as is usual for images of 32x32 (He et al., 2015)."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        *,
        width: int = 64,
        depths: Sequence[int] = (2, 2, 2, 2),
        rngs: nnx.Rngs,
    ) -> None:
        self.stem = nnx.Conv(channels, width, (3, 3), use_bias=False, rngs=rngs)
        self.stem_norm = nnx.BatchNorm(width, rngs=rngs)
        blocks, inputs = [], width
        for stage, depth in enumerate(depths):
            for i in range(depth):
                features, stride = width * 2**stage, 2 if stage > 0 and i == 0 else 1
                blocks.append(ResidualBlock(inputs, features, stride, rngs=rngs))
                inputs = features
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits f32[n, classes] of images f32[n, h, w, c]."""
        x = nnx.relu(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class TransformerBlock(nnx.Module):
    """Attention and MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.mlp = nnx.Sequential(
            nnx.Linear(width, 4 * width, rngs=rngs),
            nnx.gelu,
            nnx.Linear(4 * width, width, rngs=rngs),
        )

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """f32[n, t, d] -> f32[n, t, d]."""
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.mlp(self.norm2(x))


class Gpt(nnx.Module):
    """GPT-2 small (Radford et al., 2019): the table of tokens is also the output layer."""

    def __init__(
        self,
        vocabulary: int = 50257,
        context: int = 1024,
        width: int = 768,
        heads: int = 12,
        depth: int = 12,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.tokens = nnx.Embed(vocabulary, width, rngs=rngs)
        self.places = nnx.Embed(context, width, rngs=rngs)
        self.blocks = nnx.List(TransformerBlock(width, heads, rngs=rngs) for _ in range(depth))
        self.norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits f32[n, t, vocabulary] of the next tokens after i32[n, t]."""
        x = self.tokens(tokens) + self.places(jnp.arange(tokens.shape[-1]))[None]
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.tokens.attend(self.norm(x))


class Vit(nnx.Module):
    """Vision transformer (Dosovitskiy et al., 2020), ViT-B/16 by default."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 1000,
        *,
        size: int = 224,
        patch: int = 16,
        width: int = 768,
        heads: int = 12,
        depth: int = 12,
        rngs: nnx.Rngs,
    ) -> None:
        edge = (patch, patch)
        self.patches = nnx.Conv(channels, width, edge, edge, padding="VALID", rngs=rngs)
        places = (1, 1 + (size // patch) ** 2, width)
        self.class_token = nnx.Param(jnp.zeros((1, 1, width)))
        self.places = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), places))
        self.blocks = nnx.List(TransformerBlock(width, heads, rngs=rngs) for _ in range(depth))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits f32[n, classes] of images f32[n, h, w, c]."""
        x = self.patches(images)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = jnp.tile(self.class_token[...], (x.shape[0], 1, 1))
        x = jnp.concatenate([first, x], axis=1) + self.places[...]
        for block in self.blocks:
            x = block(x, None)
        return self.head(self.norm(x[:, 0]))
