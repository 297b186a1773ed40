"""Schedules of the noise, weight clipping, distillation."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lumina_jax as lj
from lumina_jax import NoiseModel, OpticalSpec, nat

NOISE = NoiseModel(relative=0.1, shot=0.2, thermal=0.3, weight=0.4)
SCHEDULES: dict[str, Callable[[], nat.Schedule]] = {
    "constant": lambda: nat.constant(0.3),
    "linear": lambda: nat.linear(0.0, 1.0, 10, begin=5),
    "cosine": lambda: nat.cosine(1.0, 0.2, 10),
    "curriculum": lambda: nat.curriculum([(0, 0.0), (4, 0.5), (9, 1.0)]),
}

# XLA takes denormals for zeros.
LEVELS = st.floats(0, 10, width=32, allow_subnormal=False)


@given(LEVELS, LEVELS, st.integers(1, 50), st.integers(0, 20))
@pytest.mark.parametrize("make", [nat.linear, nat.cosine])
def test_a_change_begins_and_ends_exactly_and_never_turns(
    make: Callable[..., nat.Schedule], start: float, end: float, steps: int, begin: int
) -> None:
    # As many steps for every example, so that XLA compiles once.
    values = np.asarray(make(start, end, steps, begin)(jnp.arange(80)))
    np.testing.assert_array_equal(values[: begin + 1], np.float32(start))
    np.testing.assert_array_equal(values[begin + steps :], np.float32(end))
    # (1 - t)·a + t·b rounds three times, so neighbors may turn by as many units in the last place.
    slack = 3 * np.finfo(np.float32).eps * max(start, end)
    assert np.all(np.diff(values) * np.sign(end - start) >= -slack)


def test_values_in_between() -> None:
    steps = np.arange(11)
    np.testing.assert_allclose(nat.linear(1.0, 3.0, 10)(steps), 1 + 0.2 * steps, rtol=1e-6)
    expected = 2 - np.cos(np.pi * steps / 10)
    np.testing.assert_allclose(nat.cosine(1.0, 3.0, 10)(steps), expected, rtol=1e-6)
    stages = nat.curriculum([(0, 0.0), (4, 0.5), (9, 1.0)])(steps)
    np.testing.assert_array_equal(stages, [0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1])


def test_schedules_agree_with_those_of_optax() -> None:
    # optax adds integers to floats.
    with jax.numpy_dtype_promotion("standard"):
        steps = jnp.arange(40)
        line = optax.linear_schedule(0.2, 1.5, 20, 10)(steps)
        half_wave = optax.cosine_decay_schedule(1.5, 20, alpha=0.2)(steps)
    # The same formulas, in another order of a few roundings.
    np.testing.assert_allclose(nat.linear(0.2, 1.5, 20, 10)(steps), line, rtol=2e-6)
    np.testing.assert_allclose(nat.cosine(1.5, 0.3, 20)(steps), half_wave, rtol=2e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_f32_scalars_traced_or_not_and_compile_once(name: str) -> None:
    schedule = SCHEDULES[name]()
    traces = []

    @jax.jit
    def level(step: jax.Array) -> jax.Array:
        traces.append(step)
        return schedule(step)

    for step in range(20):
        value = schedule(step)
        assert value.shape == ()
        assert value.dtype == np.float32
        # XLA contracts a product and a sum into one rounding.
        np.testing.assert_allclose(level(jnp.int32(step)), value, rtol=1e-6, atol=1e-7)
    assert len(traces) == 1


def test_steps_beyond_f32_stay_apart() -> None:
    far = 2**30
    schedule = nat.linear(0.0, 1.0, 2, begin=far)
    np.testing.assert_array_equal([schedule(far + i) for i in range(3)], [0, 0.5, 1])
    np.testing.assert_array_equal(nat.curriculum([(0, 1.0), (far, 2.0)])(far - 1), 1.0)


def test_scaled_noise_is_the_noise_times_the_factor() -> None:
    nano = nat.scale_noise("lumina_nano_v1", 0.5)
    assert nano == nat.scale_noise(lj.HardwareProfile.preset("lumina_nano_v1"), 0.5)
    assert float(nano.relative) == pytest.approx(0.075)
    scaled = nat.scale_noise(NOISE, 0.5)
    assert [float(v) for v in jax.tree.leaves(scaled)] == pytest.approx(
        [0.5 * float(v) for v in jax.tree.leaves(NOISE)]
    )
    x, w = jnp.ones((200, 8)), jnp.ones((8, 40))
    call: dict[str, Any] = {"spec": OpticalSpec(), "key": jax.random.key(0)}
    one = lj.optical_matmul(x, w, noise=NOISE, **call) - 8
    half = lj.optical_matmul(x, w, noise=scaled, **call) - 8
    # The same ε at half the size; y is 8, whose last place is 1e-6.
    np.testing.assert_allclose(half, 0.5 * one, atol=3e-6)
    quiet = lj.optical_matmul(x, w, noise=nat.scale_noise(NOISE, 0), **call)
    np.testing.assert_array_equal(quiet, x @ w)


def test_a_schedule_of_the_noise_compiles_once_and_has_a_gradient() -> None:
    schedule, traces = nat.linear(0.0, 1.0, 10), []
    x, w = jnp.ones((4, 8)), jnp.ones((8, 3))

    @jax.jit
    def step(i: jax.Array, key: jax.Array) -> jax.Array:
        traces.append(i)
        noise = nat.scale_noise(NOISE, schedule(i))
        return lj.optical_matmul(x, w, spec=OpticalSpec(), noise=noise, key=key)

    outputs = [step(jnp.int32(i), jax.random.key(0)) for i in range(5)]
    assert len(traces) == 1
    spread = [float(jnp.abs(y - 8).max()) for y in outputs]
    assert spread[0] == 0
    assert all(a < b for a, b in itertools.pairwise(spread))

    def total(factor: jax.Array) -> jax.Array:
        noise = nat.scale_noise(NOISE, factor)
        return step_of(noise).sum()

    def step_of(noise: NoiseModel) -> jax.Array:
        return lj.optical_matmul(x, w, spec=OpticalSpec(), noise=noise, key=jax.random.key(0))

    # y' = y + factor·σ·ε is linear in the factor.
    slope = jax.grad(total)(jnp.float32(0.5))
    np.testing.assert_allclose(slope, total(jnp.float32(1.0)) - 96, rtol=1e-4)


SCHEDULE_ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: nat.constant(-1.0), ValueError, "constant: `value` must be at least 0, got -1"),
    (lambda: nat.constant("1"), TypeError, "constant: `value` must be a real number, got '1'"),  # type: ignore[arg-type]
    (lambda: nat.linear(0.0, float("nan"), 3), ValueError, "linear: `end` must be finite, got nan"),
    (lambda: nat.linear(0.0, 1.0, 0), ValueError,
     "linear: `steps` must be from 1 to 2147483647, got 0"),
    (lambda: nat.cosine(0.0, 1.0, 2.5), TypeError, "cosine: `steps` must be an int, got 2.5"),  # type: ignore[arg-type]
    (lambda: nat.cosine(0.0, 1.0, 3, -1), ValueError,
     "cosine: `begin` must be from 0 to 2147483647, got -1"),
    (lambda: nat.linear(0.0, 1.0, 10**400), ValueError, "linear: `steps` must be from 1 to 2147"),
    (lambda: nat.curriculum([(0, 0.0), (2**40, 1.0)]), ValueError,
     "curriculum: `stages` must be from 0 to 2147483647, got 1099511627776"),
    (lambda: nat.linear(0.0, 1.0, 3)(None), TypeError, "linear: `step` must be a number, got None"),
    (lambda: nat.constant(0.5)("x"), TypeError, "constant: `step` must be a number, got 'x'"),
    (lambda: nat.cosine(0.0, 1.0, 3)(float("nan")), ValueError,
     "cosine: `step` must be finite, got nan"),
    (lambda: nat.curriculum([]), ValueError, "the first of `stages` must begin at step 0"),
    (lambda: nat.curriculum([(1, 0.5)]), ValueError, "the first of `stages` must begin at step 0"),
    (lambda: nat.curriculum([(0, 0.5), (0, 1.0)]), ValueError,
     r"the steps of `stages` must grow, got \[0, 0\]"),
    (lambda: nat.curriculum([0.5]), TypeError, r"`stages` must be pairs \(step, factor\)"),  # type: ignore[list-item]
    (lambda: nat.scale_noise(0.1, 1.0), TypeError,  # type: ignore[arg-type]
     "scale_noise: `noise` must be a NoiseModel or a device, got float"),
    (lambda: nat.scale_noise(NOISE, -1.0), ValueError, "scale_noise: `factor` must be at least 0"),
    (lambda: nat.scale_noise(NOISE, jnp.ones(2)), ValueError,
     r"scale_noise: `factor` has shape \(2,\), expected a scalar"),
    (lambda: nat.linear(0.0, 1.0, 3)(True), TypeError, "linear: `step` must be a number, got True"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), SCHEDULE_ERRORS)
def test_schedule_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


matrices = st.integers(0, 2**31 - 1).map(
    lambda seed: np.random.default_rng(seed).standard_t(2, (8, 6)).astype(np.float32)
)


def clipped(transform: optax.GradientTransformation, params: Any, updates: Any) -> tuple[Any, Any]:
    out, _ = transform.update(updates, transform.init(params), params)
    return out, optax.apply_updates(params, out)


@given(matrices, matrices, st.floats(0.01, 5))
def test_steps_end_within_the_limit_and_inside_it_nothing_changes(
    param: np.ndarray, update: np.ndarray, limit: float
) -> None:
    params, updates = jnp.asarray(param), jnp.asarray(update)
    out, after = clipped(nat.clip_weights(limit), params, updates)
    # param + (clip - param) rounds at the size of the larger.
    slack = 2 * np.finfo(np.float32).eps * np.maximum(np.abs(param), limit)
    assert np.all(np.abs(after) <= limit + slack)
    inside = np.abs(param + update) < limit
    error = np.abs(np.asarray(out) - update)[inside]
    assert np.all(error <= slack[inside] + 1e-6 * np.abs(update)[inside])
    again, _ = clipped(nat.clip_weights(limit), after, jnp.zeros_like(after))
    assert np.all(np.abs(np.asarray(again)) <= slack)


@given(matrices, matrices, st.floats(0.5, 4))
def test_steps_end_within_deviations_of_each_tensor(
    param: np.ndarray, update: np.ndarray, sigma: float
) -> None:
    params = {"a": jnp.asarray(param), "b": jnp.asarray(100 * param)}
    updates = {"a": jnp.asarray(update), "b": jnp.asarray(update)}
    _, after = clipped(nat.clip_weights(sigma=sigma), params, updates)
    for name in params:
        stepped = np.asarray(params[name]) + np.asarray(updates[name])
        bound = sigma * np.std(stepped)
        # The deviation is a sum of 48 squares in f32.
        slack = 1e-5 * np.abs(params[name]).max()
        np.testing.assert_allclose(
            after[name], np.clip(stepped, -bound, bound), rtol=1e-5, atol=slack
        )


def test_biases_are_left_alone_unless_the_mask_says_otherwise() -> None:
    params = {"kernel": jnp.full((3, 3), 5.0), "bias": jnp.full(3, 5.0)}
    updates = jax.tree.map(jnp.zeros_like, params)
    _, after = clipped(nat.clip_weights(1.0), params, updates)
    assert float(after["kernel"].max()) == 1
    assert float(after["bias"].max()) == 5
    for mask in ({"kernel": False, "bias": True}, lambda p: {"kernel": False, "bias": True}):
        _, after = clipped(nat.clip_weights(1.0, mask=mask), params, updates)
        assert float(after["kernel"].max()) == 5
        assert float(after["bias"].max()) == 1


def test_a_tensor_without_a_deviation_is_left_alone() -> None:
    params = {"same": jnp.ones((2, 2)), "broken": jnp.array([[1.0, jnp.nan], [2.0, 3.0]])}
    updates = jax.tree.map(jnp.zeros_like, params)
    _, after = clipped(nat.clip_weights(sigma=1.0), params, updates)
    for name in params:
        np.testing.assert_array_equal(after[name], params[name])


def test_training_with_clipping_in_a_chain_stays_within_the_limit() -> None:
    optimizer = optax.chain(optax.sgd(0.1), nat.clip_weights(0.25))
    target = jnp.linspace(-1, 1, 12).reshape(3, 4)
    params = jnp.zeros((3, 4))
    state = optimizer.init(params)

    @jax.jit
    def step(params: jax.Array, state: Any) -> Any:
        gradient = jax.grad(lambda w: jnp.sum((w - target) ** 2))(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(200):
        params, state = step(params, state)
        assert float(jnp.abs(params).max()) <= 0.25 * (1 + 1e-6)
    # The distance shrinks by 0.8 in each of 200 steps.
    np.testing.assert_allclose(params, jnp.clip(target, -0.25, 0.25), atol=1e-6)


CLIP_ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "clip_weights: expected one of `limit` and `sigma`, got None and None"),
    ({"limit": 1.0, "sigma": 2.0}, ValueError, "expected one of `limit` and `sigma`, got 1.0 and"),
    ({"limit": 0.0}, ValueError, "clip_weights: `limit` must be above 0, got 0"),
    ({"sigma": float("inf")}, ValueError, "clip_weights: `sigma` must be finite, got inf"),
    ({"sigma": "2"}, TypeError, "clip_weights: `sigma` must be a number, got '2'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), CLIP_ERRORS)
def test_clip_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nat.clip_weights(**arguments)


def test_clipping_needs_params_that_are_real(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = nat.clip_weights(1.0)
    params = jnp.ones((2, 2))
    with pytest.raises(ValueError, match="clip_weights: `update` needs the params, got None"):
        clip.update(params, clip.init(params))
    complex_params = params.astype(jnp.complex64)
    with pytest.raises(TypeError, match="clip_weights: weights must be real, got complex64"):
        clip.update(complex_params, clip.init(complex_params), complex_params)
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError, match=r"needs optax: pip install 'lumina-jax\[flax\]'"):
        nat.clip_weights(1.0)


def logits(seed: int, scale: float = 3.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    random = np.random.default_rng(seed)
    student, teacher = (random.normal(size=(2, 16, 10)) * scale).astype(np.float32)
    return jnp.asarray(student), jnp.asarray(teacher), jnp.asarray(random.integers(0, 10, 16))


def slow_loss(student: Any, teacher: Any, labels: Any, temperature: float, weight: float) -> float:
    """The formula, image by image in f64."""
    total = 0.0
    for s, t, label in zip(
        *(np.asarray(v, np.float64) for v in (student, teacher)), labels, strict=True
    ):
        p, q = (np.exp(v / temperature) / np.exp(v / temperature).sum() for v in (t, s))
        cross = -np.log(np.exp(s[label]) / np.exp(s).sum())
        total += (1 - weight) * cross + weight * temperature**2 * np.sum(p * np.log(p / q))
    return total / len(labels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_distillation_is_its_formula(temperature: float, weight: float) -> None:
    student, teacher, labels = logits(0)
    got = nat.distillation_loss(student, teacher, labels, temperature, weight)
    expected = slow_loss(student, teacher, np.asarray(labels), temperature, weight)
    # Logarithms of f32, which do not cancel at any temperature.
    np.testing.assert_allclose(got, expected, rtol=2e-5)


def test_weight_0_is_cross_entropy_and_weight_1_sees_no_labels() -> None:
    student, teacher, labels = logits(1)
    expected = optax.softmax_cross_entropy_with_integer_labels(student, labels).mean()
    none = nat.distillation_loss(student, teacher, labels, weight=0.0)
    np.testing.assert_allclose(none, expected, rtol=1e-6)
    full = [nat.distillation_loss(student, teacher, v, weight=1.0) for v in (labels, 9 - labels)]
    assert full[0] == full[1]
    assert nat.distillation_loss(teacher, teacher, labels, 2.0, 1.0) == 0


@pytest.mark.parametrize("temperature", [1e3, 1e5])
def test_a_high_temperature_compares_logits(temperature: float) -> None:
    student, teacher, labels = logits(2)
    got = nat.distillation_loss(student, teacher, labels, temperature, 1.0)
    difference = np.asarray(teacher - student, np.float64)
    centered = difference - difference.mean(-1, keepdims=True)
    # The next order is logits/T, 1e-2 at the lower of the two.
    np.testing.assert_allclose(got, np.mean(np.sum(centered**2, -1) / 20), rtol=20 / temperature)


loss_and_gradient = jax.jit(jax.value_and_grad(nat.distillation_loss, (0, 1)))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 50.0, 1e4])
def test_gradient_is_the_difference_of_the_probabilities(temperature: float) -> None:
    student, teacher, labels = logits(3)
    _, (by_student, by_teacher) = loss_and_gradient(student, teacher, labels, temperature, 1.0)
    s, t = (np.asarray(v, np.float64) / temperature for v in (student, teacher))
    p, q = (np.exp(v) / np.exp(v).sum(-1, keepdims=True) for v in (t, s))
    expected = temperature * (q - p) / 16
    # Logits of 3 in f32 over T leave 1e-6 of each; their gradient is of size 1/160.
    np.testing.assert_allclose(by_student, expected, atol=2e-6)
    np.testing.assert_array_equal(by_teacher, 0)


def test_extreme_logits_stay_finite() -> None:
    student = jnp.array([[1e4, -1e4, 0.0], [0.0, 1e4, -1e4]])
    teacher = -student
    for temperature in (1.0, 10.0):
        labels = jnp.array([0, 1])
        value, slopes = loss_and_gradient(student, teacher, labels, temperature, 0.5)
        assert np.isfinite(value)
        assert np.all(np.isfinite(slopes[0]))


S, T, L = jnp.zeros((4, 3)), jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)
DISTILL_ERRORS: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    ((S, T[:3], L), ValueError, r"`teacher_logits` has shape \(3, 3\), expected that of"),
    ((S[:0], T[:0], L[:0]), ValueError, "and at least one example"),
    ((S, T, L[:3]), ValueError, r"`labels` has shape \(3,\), expected \(4,\)"),
    ((S, T, jnp.zeros(4)), TypeError, "`labels` must be integers, got float32"),
    ((L, T, L), TypeError, "`student_logits` must be real floats, got int32"),
    ((S, T, L, 0.0), ValueError, "`temperature` must be above 0, got 0"),
    ((S, T, L, 1.0, 1.5), ValueError, "`weight` must be at most 1, got 1.5"),
    ((S, T, L, jnp.ones(2)), ValueError, r"`temperature` has shape \(2,\), expected a scalar"),
    ((jnp.float32(0), T, L), ValueError, r"`student_logits` has shape \(\)"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), DISTILL_ERRORS)
def test_distillation_errors(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nat.distillation_loss(*arguments)


def test_short_integers_count_as_steps() -> None:
    for schedule in (nat.linear(0.0, 1.0, 1000, 500), nat.curriculum([(0, 0.0), (500, 1.0)])):
        for kind in (np.uint8, np.int8, np.int16):
            assert float(schedule(kind(100))) == 0.0


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_are_classes(labels: list[int]) -> None:
    logits = np.ones((2, 3), np.float32)
    message = f"`labels` must be from 0 to 2, got {min(labels)} to {max(labels)}"
    with pytest.raises(ValueError, match=message):
        nat.distillation_loss(logits, logits, np.asarray(labels))
