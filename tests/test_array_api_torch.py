"""The ops and the layer for PyTorch: the bits and the gradients of JAX, in memory of tensors."""

from __future__ import annotations

import copy
import operator
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax as lj
from any_array import CASES, FINE, IDS, KEY, NOISY, SEED, Calls, Case, complexes, real
from lumina_jax import array_api

torch: Any = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")

from lumina_jax.array_api.torch import OpticalLinear  # noqa: E402, where there is a torch

QUIET = lj.NoiseModel()


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_bits_and_gradients_are_those_of_jax(case: Case) -> None:
    tensors: dict[int, Any] = {}

    def made(array: np.ndarray[Any, Any]) -> Any:
        tensor = torch.from_numpy(array.copy())
        if array.dtype.kind in "fc":
            tensors[id(array)] = tensor.requires_grad_()
        return tensor

    results, expected = case.on(array_api, made), case.expected()
    for got, value in zip(results, expected, strict=True):
        assert isinstance(got, torch.Tensor)
        assert got.detach().numpy().tobytes() == value.tobytes()
        assert got.shape == value.shape
    assert not any(other.requires_grad for other in results[1:])

    is_complex = expected[0].dtype.kind == "c"
    upstream = np.full(expected[0].shape, 1 + 0.5j if is_complex else 1, expected[0].dtype)
    results[0].backward(torch.from_numpy(upstream))
    scales = {
        n: v for n, v in case.options.items() if isinstance(v, np.ndarray) and id(v) in tensors
    }

    def function(arrays: Any, scales: Any) -> jax.Array:
        key = {"key": KEY} if case.draws else {}
        out = getattr(lj, case.name)(*arrays, **case.options | scales, **key)
        return out[0] if isinstance(out, tuple) else out

    at = jax.tree.map(jnp.asarray, (case.arrays, scales))
    gradients = jax.vjp(function, *at)[1](jnp.asarray(upstream.conj()))
    for array, gradient in zip(
        jax.tree.leaves((case.arrays, scales)), jax.tree.leaves(gradients), strict=True
    ):
        # Of a complex number it is the conjugate in JAX. A few roundings of sums of some ten terms.
        np.testing.assert_allclose(
            tensors[id(array)].grad.numpy(), np.conj(gradient), rtol=1e-6, atol=1e-6
        )


def test_memory_is_that_of_the_tensors_in_and_out(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    inputs, outputs = calls.inputs, calls.outputs
    for case in CASES:
        if not case.shares:
            continue
        tensors = {id(array): torch.from_numpy(array.copy()) for array in case.arrays}
        results = case.on(array_api, lambda a, of=tensors: of.get(id(a), torch.from_numpy(a)))
        assert {tensor.data_ptr() for tensor in tensors.values()} <= inputs, case.name
        assert {tensor.data_ptr() for tensor in results} <= outputs, case.name
    # The weights of a Linear lie by column, and no gradient copies what it needs.
    x, w = torch.randn(4, 6, requires_grad=True), torch.randn(3, 6, requires_grad=True)
    out = array_api.optical_matmul(x, w.T, **NOISY, seed=SEED)
    assert {x.data_ptr(), w.data_ptr()} <= inputs
    assert out.data_ptr() in outputs
    inputs.clear()
    out.sum().backward()
    assert {x.data_ptr(), w.data_ptr()} <= inputs
    assert {x.grad.data_ptr(), w.grad.data_ptr()} <= outputs


def test_any_layout_is_read() -> None:
    x, w = torch.randn(6, 8), torch.randn(8, 4)
    expected = array_api.optical_matmul(x, w, **NOISY, seed=SEED)
    apart = torch.zeros(12, 16)[::2, ::2].copy_(x)
    for other in (apart, x.T.contiguous().T, -x.neg(), torch.nn.Parameter(x)):
        assert torch.equal(array_api.optical_matmul(other, w, **NOISY, seed=SEED), expected)
    rows = x[:1].expand(6, 8)
    got = array_api.optical_matmul(rows, w, **NOISY, seed=SEED)
    assert torch.equal(got, array_api.optical_matmul(rows.clone(), w, **NOISY, seed=SEED))
    z, v = torch.from_numpy(complexes(3, 4)), torch.from_numpy(complexes(4, 2))
    assert torch.equal(
        array_api.complex_matmul(z.conj(), v), array_api.complex_matmul(z.conj().resolve_conj(), v)
    )


def test_gradients_pass_through_the_layers_around() -> None:
    """As autograd of the ideal product, and with noise of tensors as its parameters."""
    x = torch.randn(5, 4, dtype=torch.complex64, requires_grad=True)
    w = torch.randn(4, 3, dtype=torch.complex64, requires_grad=True)
    for product in (array_api.complex_matmul, torch.matmul):
        product(x * 2, w.conj()).abs().square().sum().backward()
    # Both gradients are in the same tensor; the second one is the first but for roundings.
    x.grad, first = None, x.grad.clone()
    torch.matmul(x * 2, w.conj()).abs().square().sum().backward()
    torch.testing.assert_close(first, 2 * x.grad, rtol=1e-5, atol=1e-4)
    relative = torch.tensor(0.1, requires_grad=True)
    options = {"spec": FINE, "y_full_scale": 9.0, "seed": SEED}
    arrays = real(4, 6), real(6, 3)
    out = array_api.optical_matmul(
        *map(torch.from_numpy, arrays), noise=lj.NoiseModel(relative=relative), **options
    )
    out.sum().backward()

    def total(relative: jax.Array) -> jax.Array:
        noise = lj.NoiseModel(relative=relative)
        return lj.optical_matmul(*arrays, noise=noise, spec=FINE, y_full_scale=9.0, key=KEY).sum()

    np.testing.assert_allclose(relative.grad, jax.grad(total)(jnp.float32(0.1)), rtol=1e-6)


def test_what_a_gradient_needs_must_not_change() -> None:
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(4, 2)
    out = array_api.optical_matmul(x, w, **NOISY, seed=SEED)
    w.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    # What the gradient sees of a result is watched, or a copy.
    upstream = torch.arange(4.0)
    for shape, is_watched in (((4, 4), True), ((2, 3, 4), False)):
        scores = torch.randn(shape, requires_grad=True)
        out = array_api.causal_softmax(scores)
        g = upstream.expand(shape)
        (expected,) = torch.autograd.grad(out, scores, g, retain_graph=True)
        out.detach().zero_()
        if is_watched:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                torch.autograd.grad(out, scores, g)
        else:
            assert torch.equal(torch.autograd.grad(out, scores, g)[0], expected)
    out = array_api.quantize(x, bits=4).square().sum()
    (gradient,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("kind", "call", "text"),
    [
        (
            ValueError,
            lambda: array_api.quantize(torch.empty(3, device="meta"), bits=3),
            "quantize: `v` is on meta, expected a tensor on the CPU; pass v.cpu()",
        ),
        (
            TypeError,
            lambda: array_api.quantize(torch.ones(3, dtype=torch.float64), bits=3),
            "quantize: `v` must be float32, got float64; cast it with v.to(torch.float32)",
        ),
        (
            TypeError,
            lambda: array_api.quantize(torch.ones(3, dtype=torch.bfloat16), bits=3),
            "quantize: `v` must be float32, got bfloat16; cast it with v.to(torch.float32)",
        ),
        (
            TypeError,
            lambda: array_api.quantize(torch.ones(3, dtype=torch.int64), bits=3),
            "quantize: `v` must be float32, got int64; cast it with v.to(torch.float32)",
        ),
        (
            TypeError,
            lambda: array_api.quantize(torch.ones(3, 3).to_sparse(), bits=3),
            "quantize: `v` has the layout torch.sparse_coo, expected torch.strided; "
            "pass v.to_dense()",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(torch.ones(2, 3), real(3, 2), spec=FINE),
            "optical_matmul: `w` is an array of NumPy and `x` one of PyTorch; bring it there with "
            "torch.asarray(w)",
        ),
        (
            TypeError,
            lambda: OpticalLinear(4, 3).double()(torch.ones(2, 4)),
            "OpticalLinear: `weight` is torch.float64, expected torch.float32, which the device "
            "computes in; bring the layer back with .float()",
        ),
        (
            ValueError,
            lambda: OpticalLinear(4, 3, device="meta")(torch.ones(2, 4)),
            "OpticalLinear: `weight` is on meta, expected the CPU, where the device is simulated; "
            "bring the layer back with .cpu()",
        ),
        (
            TypeError,
            lambda: OpticalLinear(4, 3)(torch.ones(2, 4).double()),
            "optical_matmul: `x` must be float32, got float64; cast it with x.to(torch.float32)",
        ),
        (
            ValueError,
            lambda: OpticalLinear(4, 3, ranges="fixed"),
            "OpticalLinear: `ranges` is 'fixed', expected one of 'calibrate', 'learn', 'dynamic'",
        ),
        (
            ValueError,
            lambda: array_api.optical_matmul(
                torch.ones(2, 3, requires_grad=True),
                torch.ones(3, 2),
                spec=lj.OpticalSpec(grad_precision="int8"),
            ),
            'optical_matmul: the gradient with `grad_precision`="int8" needs a `seed`, got None; '
            "pass an int such as seed=0, or take another precision",
        ),
        (
            ValueError,
            lambda: OpticalLinear(4, 3, momentum=1.0),
            "OpticalLinear: `momentum` is 1.0, expected 0 <= momentum < 1",
        ),
    ],
)
def test_an_error_says_what_to_do(kind: Any, call: Any, text: str) -> None:
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == text


def test_a_transformation_of_functions_is_refused() -> None:
    with pytest.raises(TypeError, match=r"within torch\.func; expected one outside of it"):
        torch.func.grad(lambda v: array_api.quantize(v, bits=4).sum())(torch.ones(3))


def test_the_layer_is_a_linear_layer_but_for_what_the_device_does() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 4)
    torch.manual_seed(0)
    ideal = OpticalLinear(6, 4, profile=None)
    for (name, own), (expected_name, expected) in zip(
        ideal.named_parameters(), linear.named_parameters(), strict=True
    ):
        assert name == expected_name
        assert torch.equal(own, expected)
    assert ideal.state_dict().keys() == linear.state_dict().keys()
    x = torch.randn(2, 5, 6)
    # Sums of six terms in another order.
    torch.testing.assert_close(ideal(x), linear(x), rtol=1e-5, atol=1e-6)

    optical = OpticalLinear(6, 4)
    assert list(optical.state_dict()) == ["weight", "bias", "x_full_scale", "y_full_scale"]
    optical.load_state_dict(linear.state_dict())
    assert torch.equal(optical.weight, linear.weight)
    optical(x)
    other = OpticalLinear(6, 4, ranges="learn")
    other.load_state_dict(optical.state_dict())
    assert other.x_full_scale == optical.x_full_scale > 0
    assert other.x_log_gain == 0
    torch.nn.Linear(6, 4).load_state_dict(optical.state_dict(), strict=False)
    with pytest.raises(RuntimeError, match="Missing key"):
        optical.load_state_dict({"bias": linear.bias})
    assert "device='lumina_nano_v1', ranges='calibrate'" in repr(copy.deepcopy(optical))
    assert OpticalLinear(6, 4, bias=False, ranges="dynamic").state_dict().keys() == {"weight"}


def test_the_layer_computes_the_op_at_its_ranges() -> None:
    profile = lj.HardwareProfile.preset("lumina_nano_v1")
    layer = OpticalLinear(6, 4, profile=profile, momentum=0.75)
    first, second = torch.randn(5, 6), 3 * torch.randn(5, 6)
    weight, bias = layer.weight.detach().T.numpy(), layer.bias.detach().numpy()

    def expected(x: Any, noise: Any, ranges: Any, seed: int = 9) -> Any:
        return lj.optical_matmul(
            x.numpy(), weight, bias, profile=profile, noise=noise, key=jax.random.key(seed),
            x_full_scale=ranges[0], y_full_scale=ranges[1],
        )  # fmt: skip

    def peaks(x: Any, x_full_scale: Any = None) -> Any:
        before_adc = lj.OpticalSpec(dac_bits=4, weight_bits=4)
        return [
            peak.max()
            for peak in lj.optical_matmul(
                x.numpy(), weight, bias, profile=profile, spec=before_adc, noise=QUIET,
                x_full_scale=x_full_scale, return_peak=True, return_x_peak=True,
            )[1:]
        ][::-1]  # fmt: skip

    ranges = peaks(first)
    got = layer(first, seed=9).detach().numpy()
    assert got.tobytes() == np.asarray(expected(first, None, ranges)).tobytes()
    assert [layer.x_full_scale, layer.y_full_scale] == [float(value) for value in ranges]
    layer(second)
    shown = peaks(second, ranges[0])
    for scale, old, seen in zip(
        (layer.x_full_scale, layer.y_full_scale), ranges, shown, strict=True
    ):
        np.testing.assert_allclose(scale, 0.75 * old + 0.25 * seen, rtol=1e-6)
    kept = layer.state_dict()
    layer.eval()
    ranges = kept["x_full_scale"].numpy(), kept["y_full_scale"].numpy()
    got = layer(first).detach().numpy()
    assert got.tobytes() == np.asarray(expected(first, QUIET, ranges)).tobytes()
    noisy = layer(first, deterministic=False, seed=9).detach().numpy()
    assert noisy.tobytes() == np.asarray(expected(first, None, ranges)).tobytes()
    layer.train()
    layer(torch.full((2, 6), torch.nan))
    layer(second, deterministic=True)
    assert [layer.x_full_scale, layer.y_full_scale] == [*map(float, ranges)]


def test_seeds_follow_the_generators_of_torch() -> None:
    x = torch.randn(5, 6)
    layer = OpticalLinear(6, 4, ranges="dynamic")

    def twice(layer: Any, seed: int) -> Any:
        torch.manual_seed(seed)
        return torch.stack([layer(x), layer(x)])

    first = twice(layer, 1)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, twice(layer, 1))
    assert not torch.equal(first, twice(layer, 2))
    layer.generator = torch.Generator().manual_seed(4)
    own = twice(layer, 1)
    assert not torch.equal(own, twice(layer, 1))
    layer.generator.manual_seed(4)
    assert torch.equal(own, twice(layer, 2))
    # Where nothing is drawn, no random state moves on.
    layer.generator = None
    ideal, state = OpticalLinear(6, 4, profile=None), torch.get_rng_state()
    ideal(x), layer(x, seed=3), layer.eval()(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_inference_without_calibration_is_told() -> None:
    layer = OpticalLinear(6, 4).eval()
    with pytest.warns(UserWarning, match="OpticalLinear: its ranges are not calibrated"):
        layer(torch.randn(2, 6))
    layer.train()(torch.randn(2, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.eval()(torch.randn(2, 6))
        OpticalLinear(6, 4, ranges="dynamic").eval()(torch.randn(2, 6))


@pytest.mark.parametrize("ranges", ["calibrate", "learn", "dynamic"])
def test_a_classifier_learns(ranges: Any) -> None:
    """Four clouds of points, told apart through 8-bit converters and 5 % noise."""
    torch.manual_seed(0)
    profile = lj.HardwareProfile.preset("lumina_nano_v1")
    options = {
        "profile": profile,
        "spec": lj.OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8),
        "noise": lj.NoiseModel(relative=0.05),
        "ranges": ranges,
    }
    labels = torch.arange(4).repeat(32)
    points = torch.randn(4, 8)[labels] * 1.5 + 0.5 * torch.randn(128, 8)
    model = torch.nn.Sequential(
        OpticalLinear(8, 16, **options), torch.nn.ReLU(), OpticalLinear(16, 4, **options)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(points), labels)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        out = model(points)
    assert (out.argmax(1) == labels).float().mean() > 0.95  # chance is 0.25
    assert torch.nn.functional.cross_entropy(out, labels) < 0.3  # at first it is log 4 = 1.39
    if ranges == "learn":
        gains = [p for name, p in model.named_parameters() if name.endswith("log_gain")]
        assert len(gains) == 4
        assert all(gain != 0 for gain in gains)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compilation_ends_before_the_op_and_goes_on_behind() -> None:
    layer = OpticalLinear(6, 4, noise=QUIET, ranges="dynamic")

    def function(x: Any) -> Any:
        return torch.relu(array_api.quantize(torch.tanh(x), bits=6)) * 2

    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append([node.target for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    back = OpticalLinear(4, 6, noise=QUIET, ranges="dynamic")
    for whole in (function, torch.nn.Sequential(layer, torch.nn.Tanh(), back)):
        graphs.clear()
        x = torch.randn(5, 6, requires_grad=True)
        got, expected = torch.compile(whole, backend=backend)(x), whole(x)
        if whole is function:
            assert graphs == [[torch.tanh], [torch.relu, operator.mul]]
        assert torch.equal(got, expected)
        (by_compiled,) = torch.autograd.grad(got.sum(), x)
        (gradient,) = torch.autograd.grad(expected.sum(), x)
        assert torch.equal(by_compiled, gradient)


def test_eight_threads_train_at_once() -> None:
    x, w = real(40, 24), real(24, 12)

    def gradient(seed: int) -> bytes:
        tensor = torch.from_numpy(x.copy()).requires_grad_()
        array_api.optical_matmul(tensor, torch.from_numpy(w), **NOISY, seed=seed).sum().backward()
        return tensor.grad.numpy().tobytes()

    expected = [gradient(seed) for seed in range(8)]
    assert len(set(expected)) == 8
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(gradient, range(8))) == expected


def test_a_gradient_may_be_asked_for_twice_and_for_few() -> None:
    x, w = torch.randn(5, 4, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    out = array_api.optical_matmul(x, w, **NOISY, seed=SEED)
    out.sum().backward(retain_graph=True)
    first = x.grad.clone()
    out.sum().backward()
    assert torch.equal(x.grad, 2 * first)
    (alone,) = torch.autograd.grad(
        array_api.optical_matmul(x, w.detach(), **NOISY, seed=SEED).sum(), x
    )
    assert torch.equal(alone, first)
    with torch.no_grad():
        assert not array_api.optical_matmul(x, w, **NOISY, seed=SEED).requires_grad


def test_the_code_of_the_document_runs() -> None:
    document = Path(__file__).parents[1] / "docs" / "array_api.md"
    text = document.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["loss"] < 0.5  # at first it is log 2 = 0.69 or more


def test_noise_of_torch() -> None:
    got = array_api.optical_noise(SEED, (6, 5), xp=torch)
    assert isinstance(got, torch.Tensor)
    assert got.numpy().tobytes() == np.asarray(lj.optical_noise(KEY, (6, 5))).tobytes()
