"""The noise alone: standard normal numbers that depend only on seed, row id and column id.

Write `mix(z)` for the first output of SplitMix64 with state `z`. A block is one row and the 256
columns `256·block … 256·block + 255`:

    base    = mix(mix(mix(seed) ^ row) ^ seed ^ block)
    lane l  = Xoshiro256++ with the 4 outputs of SplitMix64 from base + 4·l·0x9E3779B97F4A7C15 on

for l = 0 … 7. Columns are drawn in groups of 32, from two outputs of each lane; `u` is output
`j / 8` of lane `j % 8`, for j = 0 … 15:

    u1 = ((u >> 33) + ½) / 2³¹        angle = 2π · (u mod 2³²) / 2³²
    ε[32·g + j] = √(-2 ln u1) · cos(angle)        ε[32·g + 16 + j] = √(-2 ln u1) · sin(angle)

The reference draws the same integers as the Rust module; its logarithm, sine and cosine round in
their own way.

`words` gives the integers themselves, one of 32 bits for each column: u >> 32 in place of the
cosine, u mod 2³² in place of the sine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._attributes import Attributes
from ._op import define
from ._signature import Signature, tensor
from ._uint64 import UInt64

T = TypeVar("T")

_BLOCK = 256
_LANES = 8
_STEPS = _BLOCK // 2 // _LANES
"""Outputs that a block takes from each lane: every output gives two columns."""
_GAMMA = 0x9E37_79B9_7F4A_7C15
_SEED_STEP = 0xD134_2543_DE82_EF95


def seed_of_part(seed: jax.Array, part: int) -> jax.Array:
    """The seed u32[..., 2] of a part of an op that draws on its own; `seed` of the first."""
    if part == 0:
        return seed
    step = UInt64.of(_SEED_STEP * part % 2**64)
    high, low = UInt64(seed[..., 0], seed[..., 1]).add(step)
    return jnp.stack((high, low), axis=-1)


@jax.jit
def normals(seed: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """ε f32[m, n] of seed u32[1|m, 2], rows u32[m] and consecutive columns u32[n]."""
    return _by_column(seed, rows, columns, np.dtype(np.float32), _box_muller)


@jax.jit
def words(seed: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Uniform random words u32[m, n], as `normals` has them but for what it makes of them."""
    return _by_column(seed, rows, columns, np.dtype(np.uint32), lambda u: (u.high, u.low))


def _by_column(
    seed: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
    dtype: np.dtype,
    halves: Callable[[UInt64], tuple[jax.Array, jax.Array]],
) -> jax.Array:
    """What `halves` makes of each output for its two columns, dtype[m, n]."""
    n = columns.shape[0]
    if n == 0:
        return jnp.zeros((rows.shape[0], 0), dtype)
    first = columns[0] // np.uint32(_BLOCK)
    # n columns that start at the end of a block touch one block more than n that do not.
    blocks = first + jax.lax.iota(np.uint32, (n + _BLOCK - 2) // _BLOCK + 1)
    pairs = jnp.stack(halves(_outputs(_seeded(_bases(seed, rows, blocks)))))
    _, steps, m, blocks, lanes = pairs.shape
    pairs = pairs.reshape(2, steps // 2, 2, m, blocks, lanes)
    # Of a group: the first halves of both outputs of all lanes, then the second halves.
    of_blocks = pairs.transpose(3, 4, 1, 0, 2, 5).reshape(m, blocks * _BLOCK)
    start = (columns[0] - first * np.uint32(_BLOCK)).astype(np.int32)
    return jax.lax.dynamic_slice_in_dim(of_blocks, start, n, axis=1)


def _mix(z: UInt64) -> UInt64:
    z = z.add(UInt64.of(_GAMMA))
    z = z.xor(z.shift_right(30)).multiply(UInt64.of(0xBF58_476D_1CE4_E5B9))
    z = z.xor(z.shift_right(27)).multiply(UInt64.of(0x94D0_49BB_1331_11EB))
    return z.xor(z.shift_right(31))


def _bases(seed: jax.Array, rows: jax.Array, blocks: jax.Array) -> UInt64:
    """u64[m, blocks]."""
    key = UInt64(seed[:, :1], seed[:, 1:])
    by_row = _mix(_mix(key).xor(_of_id(rows[:, None])))
    return _mix(by_row.xor(key).xor(_of_id(blocks[None, :])))


def _of_id(value: jax.Array) -> UInt64:
    return UInt64(jnp.zeros_like(value), value)


def _seeded(base: UInt64) -> UInt64:
    """The state of every lane, u64[4, m, blocks, lanes].

    Its four words stay one array, also from step to step: XLA would compile what leads to them
    again for each array.
    """
    count = jnp.arange(4 * _LANES, dtype=np.uint32).reshape(_LANES, 4).T
    offset = UInt64.of(_GAMMA).multiply(_of_id(count[:, None, None, :]))
    return _mix(UInt64(*(half[None, :, :, None] for half in base)).add(offset))


def _outputs(state: UInt64) -> UInt64:
    """The first outputs of every lane, u64[steps, m, blocks, lanes]."""

    def xoshiro256_plus_plus(state: UInt64, _: None) -> tuple[UInt64, UInt64]:
        a, b, c, d = (
            UInt64(*(jax.lax.index_in_dim(half, i, keepdims=False) for half in state))
            for i in range(4)
        )
        output = a.add(d).rotate_left(23).add(a)
        t = b.shift_left(17)
        c = c.xor(a)
        d = d.xor(b)
        b = b.xor(c)
        a = a.xor(d)
        words = (a, b, c.xor(t), d.rotate_left(45))
        return UInt64(*map(jnp.stack, zip(*words, strict=True))), output

    return jax.lax.scan(xoshiro256_plus_plus, state, None, length=_STEPS)[1]


def _box_muller(u: UInt64) -> tuple[jax.Array, jax.Array]:
    """The cosine and the sine half of f32, each in the shape of `u`."""
    h = (u.high >> np.uint32(1)).astype(np.float32)
    radius = jnp.sqrt(np.float32(-2) * jnp.log((h + np.float32(0.5)) * np.float32(2.0**-31)))
    # In f32 the angle keeps its low bits only near 0: take the whole quarter turns off first.
    quarter = (u.low + np.uint32(1 << 29)) >> np.uint32(30)
    rest = jax.lax.bitcast_convert_type(u.low - (quarter << np.uint32(30)), np.int32)
    angle = rest.astype(np.float32) * np.float32(2 * np.pi / 2**32)
    c, s = jnp.cos(angle), jnp.sin(angle)
    cos = jnp.select([quarter == i for i in range(4)], [c, -s, -c, s])
    sin = jnp.select([quarter == i for i in range(4)], [s, c, -s, -c])
    return radius * cos, radius * sin


class Operands(NamedTuple, Generic[T]):
    """Operands of the op."""

    seed: T
    """u32[1 or m, 2]: high word, low word."""
    rows: T
    """u32[m]: ids of the rows."""
    columns: T
    """u32[n]: consecutive ids of the columns."""


def _signature(attrs: Attributes) -> Signature:
    del attrs
    ids = Operands(seed=tensor("u32", "m?", 2), rows=tensor("u32", "m"), columns=tensor("u32", "n"))
    return Signature(ids, (tensor("f32", "m", "n"),))


def _reference(attrs: Attributes, operands: Operands[jax.Array]) -> list[jax.Array]:
    del attrs
    return [normals(operands.seed, operands.rows, operands.columns)]


op = define("optical_noise", operands=Operands, signature=_signature, reference=_reference)
