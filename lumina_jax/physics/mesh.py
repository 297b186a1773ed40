"""Meshes of Mach-Zehnder interferometers: phase errors, and thermal crosstalk of phase shifters.

Matrices act on column vectors of fields. Sources: Reck et al., Phys. Rev. Lett. 73, 58 (1994) and
Clements et al., Optica 3, 1460 (2016) for the mesh; Miller, Optica 2, 747 (2015) and Bandyopadhyay
et al., Optica 8, 1247 (2021) for imperfect couplers.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike

from .._arguments import complex_matrix, real, scalar

_GAIN = 1.001
"""Mean power of the columns of a unitary matrix, with the rounding of measured ones."""
_MOST = 1e15
"""Of a phase error: no factor takes its product out of f32."""


def mzi(
    theta_rad: ArrayLike,
    phi_rad: ArrayLike,
    *,
    coupler_1_rad: ArrayLike = math.pi / 4,
    coupler_2_rad: ArrayLike = math.pi / 4,
) -> jax.Array:
    """Transfer matrix of a Mach-Zehnder interferometer, c64[..., 2, 2].

        U = B(η₂)·diag(e^{iθ}, 1)·B(η₁)·diag(e^{iφ}, 1)
        B(η) = [[cos η, i·sin η], [i·sin η, cos η]]

    With perfect couplers, η = π/4, U = i·e^{iθ/2}·[[e^{iφ}·sin(θ/2), cos(θ/2)],
    [e^{iφ}·cos(θ/2), -sin(θ/2)]]. Lossless, so U is unitary.

    Source: Clements et al., Optica 3, 1460 (2016); couplers as in Miller, Optica 2, 747 (2015).
    Valid for one polarization, lossless, phases in rad.

    Args:
        theta_rad: θ, internal phase, rad; all arguments broadcast.
        phi_rad: φ, external phase, rad.
        coupler_1_rad: η₁ of the first coupler, rad; sin²η crosses.
        coupler_2_rad: η₂ of the second.
    """
    values = (
        real("mzi", "theta_rad", theta_rad),
        real("mzi", "phi_rad", phi_rad),
        real("mzi", "coupler_1_rad", coupler_1_rad),
        real("mzi", "coupler_2_rad", coupler_2_rad),
    )
    # Python numbers take the type of the arrays beside them, as in arithmetic.
    theta, phi, eta_1, eta_2 = jnp.broadcast_arrays(
        *(value.astype(jnp.result_type(*values)) for value in values)
    )
    couplers = _coupler(eta_2) @ _phase(theta) @ _coupler(eta_1)
    return couplers @ _phase(phi)


def mesh(theta_rad: ArrayLike, phi_rad: ArrayLike, output_rad: ArrayLike) -> jax.Array:
    """Transfer matrix of a rectangular (Clements) mesh, c64[N, N]: `U = diag(e^{iψ})·M_{N-1}…M_0`.

    Layer l = 0 … N-1 has an `mzi` on the modes (2m + l mod 2, 2m + l mod 2 + 1); where an odd layer
    has one fewer than f32[N, N // 2] holds, the last entry is unused. Then the output phases.

    Source: Clements et al., Optica 3, 1460 (2016). Valid for lossless, phases in rad.

    Args:
        theta_rad: f32[N, N // 2], rad.
        phi_rad: f32[N, N // 2], rad.
        output_rad: f32[N], rad.
    """
    output = real("mesh", "output_rad", output_rad)
    if output.ndim != 1 or output.shape[0] < 2:
        raise ValueError(f"mesh: `output_rad` has shape {output.shape}, expected (n,) with n >= 2")
    n = output.shape[0]
    theta, phi = real("mesh", "theta_rad", theta_rad), real("mesh", "phi_rad", phi_rad)
    for name, value in (("theta_rad", theta), ("phi_rad", phi)):
        if value.shape != (n, n // 2):
            raise ValueError(f"mesh: `{name}` has shape {value.shape}, expected {(n, n // 2)}")
    blocks = mzi(theta, phi)
    matrix = jnp.eye(n, dtype=blocks.dtype)
    for layer in range(n):
        first = layer % 2
        pairs = (n - first) // 2
        rows = matrix[first : first + 2 * pairs].reshape(pairs, 2, n)
        mixed = (blocks[layer, :pairs] @ rows).reshape(2 * pairs, n)
        matrix = matrix.at[first : first + 2 * pairs].set(mixed)
    return _unit(output)[:, None] * matrix


def phase_quantization_std(bits: ArrayLike) -> jax.Array:
    """Standard deviation of a phase from a DAC of b bits over 2π, rad: `2π·2^-b/√12`.

    Source: rounding error of a uniform converter. Valid for b ≥ 2, errors that are uniform and
    independent, rad.
    """
    bits = real("phase_quantization_std", "bits", bits, at_least=1, at_most=32)
    return 2 * math.pi / math.sqrt(12) * jnp.exp2(-bits)


def mesh_error(phase_std_rad: ArrayLike, modes: ArrayLike) -> jax.Array:
    """Relative error of a mesh with independent phase errors: `√(E‖ΔU‖²_F / N) = σ_φ·√N`.

    A small error δ of one phase shifter changes U by δ in Frobenius norm, wherever it sits, and the
    N² of them add in squares, against ‖U‖²_F = N. To first order, σ_φ·√N ≪ 1.

    Source: Bandyopadhyay et al., Optica 8, 1247 (2021). Valid for σ_φ·√N ≪ 1, rad; no unit.

    Args:
        phase_std_rad: σ_φ, rad; not negative.
        modes: N, at least 2.
    """
    sigma = real("mesh_error", "phase_std_rad", phase_std_rad, at_least=0, at_most=_MOST)
    return sigma * jnp.sqrt(real("mesh_error", "modes", modes, at_least=2))


def fidelity(target: ArrayLike, actual: ArrayLike) -> jax.Array:
    """Fidelity of two unitary matrices, 0 to 1: `|tr(U†·V)|² / N²`, blind to a global phase.

    Source: definition, as in Clements et al., Optica 3, 1460 (2016). Valid for unitary
    matrices; no unit.

    Args:
        target: U, c64[..., N, N].
        actual: V, c64[..., N, N].

    Raises:
        TypeError: a matrix is not of numbers.
        ValueError: one is ragged or not square, or the shapes differ; one has gain. A matrix with
            losses is taken, and its losses count.
    """
    u = complex_matrix("fidelity", "target", target)
    v = complex_matrix("fidelity", "actual", actual)
    if u.ndim < 2 or u.shape != v.shape or u.shape[-1] != u.shape[-2]:
        raise ValueError(
            f"fidelity: `actual` has shape {v.shape}, expected that of `target`, square: {u.shape}"
        )
    if u.shape[-1] == 0:
        raise ValueError(f"fidelity: `target` has shape {u.shape}, expected at least one mode")
    for name, matrix in (("target", u), ("actual", v)):
        if not isinstance(matrix, Tracer):
            power = np.square(np.abs(np.asarray(matrix, np.complex128))).sum(axis=(-2, -1))
            if np.any(power > u.shape[-1] * _GAIN):
                raise ValueError(
                    f"fidelity: `{name}` must be unitary, got a matrix of gain, whose mean power "
                    f"is {power.max() / u.shape[-1]:.4g}"
                )
    if u.dtype != v.dtype:
        u, v = (matrix.astype(jnp.result_type(complex)) for matrix in (u, v))
    overlap = jnp.sum(jnp.conj(u) * v, axis=(-2, -1))
    return jnp.square(jnp.abs(overlap)) / u.shape[-1] ** 2


def thermal_crosstalk(positions_m: ArrayLike, coupling: ArrayLike, decay_m: ArrayLike) -> jax.Array:
    """Thermal crosstalk of phase shifters, f32[P, P]: `Γ_ij = γ·e^{-d_ij/d₀}`, 0 on the diagonal.

    Each heater warms the others: φ = (I + Γ)·φ_cmd. Exponential decay is empirical and holds over
    some multiples of d₀, without trenches between the heaters.

    Source: Milanizadeh et al., J. Lightwave Technol. 37, 1325 (2019). Valid for some multiples
    of d₀, without trenches between the heaters.

    Args:
        positions_m: f32[P] or f32[P, D], m.
        coupling: γ, crosstalk at no distance (no unit); 0 ≤ γ < 1.
        decay_m: d₀, m; above 0.
    """
    name = "thermal_crosstalk"
    positions = real(name, "positions_m", positions_m)
    if positions.ndim not in (1, 2):
        raise ValueError(
            f"{name}: `positions_m` has shape {positions.shape}, expected (p,) or (p, d)"
        )
    if positions.ndim == 1:
        positions = positions[:, None]
    gamma = scalar(name, "coupling", coupling, at_least=0, below=1)
    decay = scalar(name, "decay_m", decay_m, above=0)
    # In units of d₀, and with a safe root: squares of µm are small, and d_ii = 0 has no gradient.
    relative = (positions[:, None] - positions[None]) / decay
    square = jnp.sum(relative * relative, axis=-1)
    others = ~jnp.eye(positions.shape[0], dtype=bool)
    apart = others & (square > 0)
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
    return jnp.where(others, gamma * jnp.exp(-distance), 0.0)


def apply_thermal_crosstalk(command_rad: ArrayLike, crosstalk: ArrayLike) -> jax.Array:
    """Phases that commanded phases give, rad: `φ = (I + Γ)·φ_cmd`; f32[..., P] and f32[P, P].

    Source: Milanizadeh et al., J. Lightwave Technol. 37, 1325 (2019). Valid for phases that are
    proportional to the heat.
    """
    command, gamma = _phases("apply_thermal_crosstalk", "command_rad", command_rad, crosstalk)
    return command + command @ gamma.T


def compensate_thermal_crosstalk(phase_rad: ArrayLike, crosstalk: ArrayLike) -> jax.Array:
    """Commands that give wanted phases, rad: `φ_cmd = (I + Γ)⁻¹·φ`; f32[..., P] and f32[P, P].

    Milanizadeh et al., J. Lightwave Technol. 37, 1325 (2019). A negative command is the same phase
    plus 2π, which is other heat: wrap the phases first, and solve again.

    Source: Milanizadeh et al., J. Lightwave Technol. 37, 1325 (2019). Valid for phases that are
    proportional to the heat, I + Γ regular.

    Raises:
        ValueError: I + Γ is singular in f32. Under jit the commands are not finite then.
    """
    phase, gamma = _phases("compensate_thermal_crosstalk", "phase_rad", phase_rad, crosstalk)
    system = jnp.eye(gamma.shape[0], dtype=gamma.dtype) + gamma
    if system.size and not isinstance(system, Tracer):
        condition = np.linalg.cond(np.asarray(system, np.float64))
        if not condition < 1 / np.finfo(np.float32).eps:
            raise ValueError(
                f"compensate_thermal_crosstalk: `crosstalk` must leave I + Γ regular, got a "
                f"condition number of {condition:.3g}"
            )
    flat = phase.reshape(-1, phase.shape[-1])
    return jnp.linalg.solve(system, flat.T).T.reshape(phase.shape)


def _phases(
    name: str, argument: str, phase: ArrayLike, crosstalk: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    phase, gamma = real(name, argument, phase), real(name, "crosstalk", crosstalk)
    if phase.ndim < 1 or gamma.shape != (phase.shape[-1],) * 2:
        raise ValueError(
            f"{name}: `crosstalk` has shape {gamma.shape}, expected (p, p) with p the last extent "
            f"of `{argument}`, which has shape {phase.shape}"
        )
    return phase, gamma


def _coupler(eta: jax.Array) -> jax.Array:
    zero = jnp.zeros_like(eta)
    bar, cross = lax.complex(jnp.cos(eta), zero), lax.complex(zero, jnp.sin(eta))
    return _matrix(bar, cross, cross, bar)


def _phase(phase: jax.Array) -> jax.Array:
    shift = _unit(phase)
    zero = jnp.zeros_like(shift)
    return _matrix(shift, zero, zero, jnp.ones_like(shift))


def _unit(phase: jax.Array) -> jax.Array:
    return lax.complex(jnp.cos(phase), jnp.sin(phase))


def _matrix(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    return jnp.stack([jnp.stack([a, b], axis=-1), jnp.stack([c, d], axis=-1)], axis=-2)
