"""Libraries that follow the Array API standard, on arrays of a namespace.

What they compute is compared with what they compute of the same NumPy arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import array_api_extra as xpx
import einops
import einops.array_api
import einx
import jax
import numpy as np
import pytest
import scipy
import sklearn
from scipy import (
    cluster,
    fft,
    integrate,
    interpolate,
    ndimage,
    optimize,
    signal,
    spatial,
    special,
    stats,
)  # fmt: skip
from sklearn import metrics, model_selection, pipeline, preprocessing
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import (
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    RidgeCV,
)
from sklearn.metrics import pairwise
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB

import lumina_jax as lj
from lumina_jax import array_api
from lumina_jax.array_api import OpticalArray
from lumina_jax.hardware import Converters

XP = array_api.namespace(None)
CHIP = lj.HardwareProfile(
    name="chip", converters=Converters.all(8), noise=lj.NoiseModel(relative=0.01)
)
RNG = np.random.default_rng(0)
DIGITS = np.arange(60) % 3
X = RNG.normal(size=(60, 6)) * [5, 4, 3, 2, 1, 0.5] + DIGITS[:, None]
TARGET = X @ np.arange(6.0) + 1
P, Q = RNG.random((7, 4)), RNG.random((5, 4))
LABELS, OTHERS = RNG.integers(0, 3, (2, 40))
SCORES = RNG.random(40)
U, V = RNG.random((2, 32)) + 0.1
MATRIX = RNG.normal(size=(6, 6))

Run = Callable[[Callable[[Any], Any]], Any]
"""Computes with the arrays that its argument makes of those of NumPy."""


@pytest.fixture(autouse=True)
def modes(numpy_promotion: None) -> Iterator[None]:
    with jax.enable_x64(True), warnings.catch_warnings():
        # Of fits that end early, of classes without a prediction, of renamed arguments.
        warnings.simplefilter("ignore")
        yield


def fitted(estimator: Any, *names: str, y: Any = None, x: Any = X) -> Run:
    """Attributes of an estimator, and what methods return."""

    def run(array: Callable[[Any], Any]) -> dict[str, Any]:
        own = sklearn.clone(estimator)
        own.fit(array(x), None if y is None else array(y))
        values = {name: getattr(own, name) for name in names}
        return {k: v(array(x)) if callable(v) else v for k, v in values.items()}

    return run


def applied(function: Callable[..., Any], *operands: Any, **options: Any) -> Run:
    return lambda array: function(*map(array, operands), **options)


def named(module: Any, names: str, *operands: Any, **options: Any) -> dict[str, Run]:
    return {name: applied(getattr(module, name), *operands, **options) for name in names.split()}


def leaves(values: Any) -> list[Any]:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [leaf for value in values for leaf in leaves(value)]
    return [values]


def check(run: Run, tolerance: float, *, are_ours: bool = True) -> None:
    expected, got = leaves(run(np.asarray)), leaves(run(XP.asarray))
    assert len(expected) == len(got)
    arrays = [value for value in got if np.ndim(value)]
    assert not are_ours or all(isinstance(value, OpticalArray) for value in arrays)
    for ours, of_numpy in zip(got, expected, strict=True):
        ours, of_numpy = np.asarray(ours), np.asarray(of_numpy)
        assert ours.shape == of_numpy.shape
        scale = np.max(np.abs(of_numpy), initial=0.0)
        np.testing.assert_allclose(ours, of_numpy, rtol=0, atol=tolerance * scale)


PROBABILITIES = "predict", "predict_proba", "decision_function", "coef_"
ESTIMATORS = {
    "PCA": fitted(PCA(3), "transform", "components_", "explained_variance_ratio_", "mean_"),
    "PCA full": fitted(
        PCA(0.9, svd_solver="full", whiten=True), "transform", "singular_values_"
    ),
    "PCA mle": fitted(PCA("mle", svd_solver="covariance_eigh"), "transform", "noise_variance_"),
    "PCA randomized": fitted(
        PCA(2, svd_solver="randomized", power_iteration_normalizer="QR", random_state=0),
        "transform", "score_samples",
    ),
    "Ridge": fitted(Ridge(solver="svd"), "predict", "coef_", "intercept_", y=TARGET),
    "Ridge of two": fitted(Ridge(), "predict", "coef_", y=np.stack([TARGET, X[:, 0]], 1)),
    "RidgeCV": fitted(RidgeCV(), "predict", "coef_", "alpha_", y=TARGET),
    "RidgeClassifier": fitted(RidgeClassifier(), "predict", "coef_", y=DIGITS),
    "LDA": fitted(LinearDiscriminantAnalysis(), "transform", *PROBABILITIES, y=DIGITS),
    "LogisticRegression": fitted(LogisticRegression(tol=1e-10), *PROBABILITIES, y=DIGITS),
    "GaussianNB": fitted(GaussianNB(), "predict_proba", "theta_", "var_", y=DIGITS),
    "GaussianMixture": fitted(
        GaussianMixture(2, init_params="random_from_data", random_state=0, max_iter=5),
        "predict", "means_", "covariances_",
    ),
    "Nystroem": fitted(Nystroem(n_components=3, random_state=0), "transform", x=P),
    **{
        name: fitted(getattr(preprocessing, name)(), "transform", x=P)
        for name in ("Binarizer", "MaxAbsScaler", "MinMaxScaler", "Normalizer",
                     "PolynomialFeatures", "StandardScaler")
    },
    "KernelCenterer": fitted(preprocessing.KernelCenterer(), "transform", x=P @ P.T),
    "LabelEncoder": applied(lambda y: preprocessing.LabelEncoder().fit_transform(y), LABELS),
    "LabelBinarizer": applied(lambda y: preprocessing.LabelBinarizer().fit_transform(y), LABELS),
}  # fmt: skip

DISTANCES = {
    **named(
        pairwise,
        "additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity euclidean_distances "
        "laplacian_kernel linear_kernel manhattan_distances polynomial_kernel rbf_kernel "
        "sigmoid_kernel pairwise_distances pairwise_kernels",
        P, Q,
    ),
    **named(pairwise, "paired_cosine_distances paired_euclidean_distances", P, P[::-1]),
    "to itself": applied(pairwise.euclidean_distances, P),
}  # fmt: skip

METRICS = {
    **named(
        metrics,
        "accuracy_score balanced_accuracy_score cohen_kappa_score confusion_matrix hamming_loss "
        "multilabel_confusion_matrix zero_one_loss adjusted_rand_score mutual_info_score "
        "v_measure_score",
        LABELS, OTHERS,
    ),
    **named(
        metrics, "f1_score jaccard_score precision_score recall_score", LABELS, OTHERS,
        average="macro",
    ),
    **named(
        metrics,
        "brier_score_loss d2_brier_score d2_log_loss_score det_curve "
        "log_loss precision_recall_curve roc_auc_score roc_curve",
        LABELS > 0, SCORES,
    ),
    **named(
        metrics,
        "d2_tweedie_score explained_variance_score "
        "max_error mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance "
        "mean_pinball_loss mean_poisson_deviance mean_squared_error mean_squared_log_error "
        "median_absolute_error r2_score root_mean_squared_error",
        U, V,
    ),
    **named(metrics, "calinski_harabasz_score", X, DIGITS),
    "cross_val_predict": lambda array: model_selection.cross_val_predict(
        Ridge(), array(X), array(TARGET), cv=2
    ),
    "GridSearchCV": lambda array: (
        model_selection.GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=2)
        .fit(array(X), array(TARGET)).best_estimator_.coef_
    ),
    "train_test_split": lambda array: model_selection.train_test_split(
        array(X), array(DIGITS), random_state=0
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ESTIMATORS, *DISTANCES, *METRICS])
def test_scikit_learn_gives_the_numbers_of_numpy(name: str) -> None:
    """In f64; decompositions are conditioned like the data, some 100, and solvers stop at 1e-10."""
    run = (ESTIMATORS | DISTANCES | METRICS)[name]
    with sklearn.config_context(array_api_dispatch=True):
        check(run, 1e-8)


@pytest.mark.parametrize("name", ["PCA", "Ridge", "LDA", "StandardScaler", "euclidean_distances"])
def test_scikit_learn_in_f32(name: str) -> None:
    """1e-5 is some hundred roundings, on data that are conditioned like 10."""

    def run(array: Callable[[Any], Any]) -> Any:
        def single(values: Any) -> Any:
            return array(values.astype(np.float32) if values.dtype == np.float64 else values)

        return (ESTIMATORS | DISTANCES)[name](single)

    with sklearn.config_context(array_api_dispatch=True):
        check(run, 1e-5)


def test_scikit_learn_on_a_real_device() -> None:
    """Its products pass converters and noise: numbers are near, and the same for the same key."""

    def run(key: int | None) -> tuple[np.ndarray[Any, Any], str]:
        xp = XP if key is None else array_api.namespace(CHIP, key=jax.random.key(key))
        model = pipeline.make_pipeline(
            preprocessing.StandardScaler(), PCA(2), LinearDiscriminantAnalysis()
        )
        with sklearn.config_context(array_api_dispatch=True):
            model.fit(xp.asarray(X), xp.asarray(DIGITS))
            return np.asarray(model.decision_function(xp.asarray(X))), xp.describe()

    exact, _ = run(None)
    first, description = run(0)
    assert "products that have drawn from the key: 0" not in description
    assert first.tobytes() == run(0)[0].tobytes() != run(1)[0].tobytes()
    error = np.abs(first - exact).max() / np.abs(exact).max()
    # Each product errs by 1 % of its result and half a step of 1/127 of its range; there are a few.
    assert 1e-4 < error < 0.3


SCIPY = {
    **named(fft, "fft ifft rfft hfft fft2 fftn dct idst fftshift", MATRIX),
    **named(
        special,
        "entr erf erfc expit gammaln i0 i1e log_ndtr logit log_softmax logsumexp ndtr ndtri "
        "softmax",
        U / 2,
    ),
    **named(special, "gammainc rel_entr stdtrit xlogy", U, V),
    **named(
        stats,
        "circmean describe entropy gmean hmean iqr jarque_bera kurtosis moment skew "
        "tmean zscore",
        U,
    ),
    **named(stats, "f_oneway pearsonr ttest_ind", U, V),
    **named(signal, "convolve correlate fftconvolve upfirdn", U, V[:5]),
    **named(signal, "detrend hilbert medfilt", U),
    "lfilter": applied(signal.lfilter, np.array([0.2, 0.3]), np.array([1.0, -0.4]), U),
    "vq": applied(cluster.vq.vq, X, X[:4]),
    "kmeans": applied(cluster.vq.kmeans, X, X[:4]),
    "linkage": applied(cluster.hierarchy.linkage, X[:9]),
    "pdist": applied(spatial.distance.pdist, X),
    "rotation": applied(
        lambda v: spatial.transform.Rotation.from_rotvec(v).apply(v[:, ::-1]), X[:, :3]
    ),
    "trapezoid": applied(integrate.trapezoid, U),
    "rosen": applied(lambda x: [f(x) for f in (optimize.rosen, optimize.rosen_hess)], U),
    "spline": applied(
        lambda x, y, t: interpolate.make_interp_spline(x, y)(t), np.arange(8.0), U[:8], 7 * SCORES
    ),
    "gaussian_filter": applied(lambda x: ndimage.gaussian_filter(x, 1.0), MATRIX),
}  # fmt: skip


@pytest.mark.parametrize("name", SCIPY)
def test_scipy_gives_the_numbers_of_numpy(name: str) -> None:
    """In f64; iterations stop at 1e-10."""
    check(SCIPY[name], 1e-8)


def test_scipy_answers_some_arrays_with_numpy() -> None:
    """`scipy.linalg` and others have no code for the standard, and take them as NumPy's."""
    for run in (applied(scipy.linalg.inv, MATRIX), applied(signal.welch, U, nperseg=16)):
        check(run, 1e-12, are_ours=False)


EXTRA: dict[str, Run] = {
    "at": applied(lambda x: xpx.at(x, 0).set(9.0, copy=True), U),
    "at of a result": applied(lambda x: xpx.at(x + 1)[2:4].multiply(3.0), U),
    "atleast_nd": applied(lambda x: xpx.atleast_nd(x, ndim=3), U),
    "apply_where": applied(
        lambda x: xpx.apply_where(x > 0.5, x, lambda a: 1 / a, lambda a: a**2), U
    ),
    "cov": applied(xpx.cov, MATRIX),
    "create_diagonal": applied(xpx.create_diagonal, U),
    "expand_dims": applied(lambda x: xpx.expand_dims(x, axis=(0, 2)), U),
    "isclose": applied(xpx.isclose, U, V),
    "kron": applied(xpx.kron, MATRIX, P),
    "nunique": applied(xpx.nunique, LABELS),
    "one_hot": applied(lambda y: xpx.one_hot(y, 3), LABELS),
    "pad": applied(lambda x: xpx.pad(x, 2), MATRIX),
    "setdiff1d": applied(xpx.setdiff1d, LABELS, np.arange(2)),
    "sinc": applied(xpx.sinc, U),
}


@pytest.mark.parametrize("name", EXTRA)
def test_array_api_extra(name: str) -> None:
    check(EXTRA[name], 1e-12)


def test_einops() -> None:
    """`einops.array_api`; `einops.einsum` and the functions at its top know arrays by type."""
    images = RNG.normal(size=(2, 4, 6, 3))
    for name, pattern, options in (
        ("rearrange", "b (h h2) (w w2) c -> (b h w) (h2 w2 c)", {"h2": 2, "w2": 3}),
        ("reduce", "b h w c -> b c", {"reduction": "mean"}),
        ("repeat", "b h w c -> b h w c k", {"k": 2}),
    ):
        function = getattr(einops.array_api, name)
        check(lambda array: function(array(images), pattern, **options), 1e-12)  # noqa: B023
    packed = XP.asarray(images)
    with pytest.raises(RuntimeError, match="Tensor type unknown to einops"):
        einops.rearrange(packed, "b h w c -> b (h w c)")


def test_einx() -> None:
    """All but `dot`, which asks the namespace for an `einsum`."""
    for run in (
        applied(lambda x: einx.id("(a c) b -> a (b c)", x, c=2), MATRIX),
        applied(lambda x: einx.mean("a [b]", x), MATRIX),
        applied(lambda x, y: einx.add("a b, b", x, y), MATRIX, MATRIX[0]),
        applied(lambda x, i: einx.get_at("[a] b, i -> i b", x, i), MATRIX, np.array([3, 0])),
    ):
        expected, got = run(np.asarray), run(XP.asarray)
        assert isinstance(got, OpticalArray)
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-12)
