"""Models written in Flax Linen as usual, which know nothing of optics.

Sizes default to those of the papers; fields make small ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """f32[n, h, w, c] -> f32[n, h/stride, w/stride, features]."""
        strides = (self.stride, self.stride)
        y = nn.Conv(self.features, (3, 3), strides, use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=not train)(y))
        y = nn.Conv(self.features, (3, 3), use_bias=False)(y)
        y = nn.BatchNorm(use_running_average=not train)(y)
        if x.shape != y.shape:
            x = nn.Conv(self.features, (1, 1), strides, use_bias=False, name="shortcut")(x)
            x = nn.BatchNorm(use_running_average=not train, name="shortcut_norm")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet-18 with a 3x3 stem, as is usual for images of 32x32 (He et al., 2015)."""

    classes: int = 10
    width: int = 64
    depths: Sequence[int] = (2, 2, 2, 2)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits f32[n, classes] of images f32[n, h, w, c]."""
        x = nn.Conv(self.width, (3, 3), use_bias=False, name="stem")(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="stem_norm")(x))
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                x = ResidualBlock(self.width * 2**stage, stride)(x, train)
        return nn.Dense(self.classes, name="head")(x.mean((1, 2)))


class Mlp(nn.Module):
    """Two layers, of which the hidden one is four times as wide."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[..., d] -> f32[..., d]."""
        width = x.shape[-1]
        return nn.Dense(width, name="down")(nn.gelu(nn.Dense(4 * width, name="up")(x)))


class TransformerBlock(nn.Module):
    """Attention and MLP, each behind a norm and beside a shortcut."""

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, train: bool) -> jax.Array:
        """f32[n, t, d] -> f32[n, t, d]."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(self.heads, name="attention")
        x = x + drop(attention(nn.LayerNorm()(x), mask=mask))
        return x + drop(Mlp(name="mlp")(nn.LayerNorm()(x)))


class Gpt(nn.Module):
    """GPT-2 small (Radford et al., 2019): the table of tokens is also the output layer."""

    vocabulary: int = 50257
    context: int = 1024
    width: int = 768
    heads: int = 12
    depth: int = 12
    dropout: float = 0.0

    def setup(self) -> None:
        """Makes the layers."""
        self.tokens = nn.Embed(self.vocabulary, self.width)
        self.places = nn.Embed(self.context, self.width)
        self.blocks = [TransformerBlock(self.heads, self.dropout) for _ in range(self.depth)]
        self.norm = nn.LayerNorm()

    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """Logits f32[n, t, vocabulary] of the next tokens after i32[n, t]."""
        return self.tokens.attend(self.features(tokens, train))

    def features(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """What the last block makes of tokens i32[n, t]: f32[n, t, width]."""
        x = self.tokens(tokens) + self.places(jnp.arange(tokens.shape[-1]))[None]
        mask = nn.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask, train)
        return self.norm(x)


class Vit(nn.Module):
    """Vision transformer (Dosovitskiy et al., 2020), ViT-B/16 by default."""

    classes: int = 1000
    patch: int = 16
    width: int = 768
    heads: int = 12
    depth: int = 12

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits f32[n, classes] of images f32[n, h, w, c]."""
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, size, padding="VALID", name="patches")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        init = nn.initializers.normal(0.02)
        first = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(first, (x.shape[0], 1, 1)), x], axis=1)
        x = x + self.param("places", init, (1, *x.shape[1:]))
        for i in range(self.depth):
            x = TransformerBlock(self.heads, name=f"block{i}")(x, None, train)
        return nn.Dense(self.classes, name="head")(nn.LayerNorm()(x[:, 0]))
