"""Modules under their names of the release before: they work, and say where their content is."""

from __future__ import annotations

import importlib
import pickle
import warnings

import pytest

import lumina_jax
from lumina_jax._moved import MOVED

# One public name of each.
NAMES = {
    "compensation": "compensate",
    "crosstalk": "RingComb",
    "drift": "thermal_gain",
    "energy": "energy_report",
    "explain": "explain",
    "kernel": "optical_linear_fused",
    "measurements": "fit_noise",
    "noise": "NoiseModel",
    "profiles": "HardwareProfile",
    "ranges": "calibrated_matmul",
    "reports": "EnergyReport",
    "workload": "layers_of",
}


def test_every_entry_is_tested() -> None:
    assert NAMES.keys() == MOVED.keys()


@pytest.mark.parametrize(("old", "name"), NAMES.items())
def test_an_old_name_answers_and_names_the_new_place(old: str, name: str) -> None:
    module = importlib.import_module(f"lumina_jax.{old}")
    text = (
        f"^`lumina_jax.{old}.{name}` has moved to `{MOVED[old]}.{name}`, and the old name goes "
        "with the next release$"
    )
    with pytest.warns(DeprecationWarning, match=text) as caught:
        found = getattr(module, name)
    assert found is getattr(importlib.import_module(MOVED[old]), name)
    assert caught[0].filename == __file__


def test_import_statements_of_all_forms() -> None:
    with pytest.warns(DeprecationWarning, match="lumina_jax.hardware.noise.NoiseModel"):
        from lumina_jax.noise import NoiseModel
    import lumina_jax.kernel

    with pytest.warns(DeprecationWarning, match="lumina_jax.numpy.version"):
        assert lumina_jax.kernel.version() == lumina_jax.__version__
    assert NoiseModel is lumina_jax.NoiseModel


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"'lumina_jax.numpy' has no attribute 'nothing'"):
        importlib.import_module("lumina_jax.kernel").nothing  # noqa: B018


def test_what_the_package_exports_warns_of_nothing() -> None:
    import lumina_jax.crosstalk
    import lumina_jax.drift
    import lumina_jax.explain

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in lumina_jax.__all__:
            getattr(lumina_jax, name)
        from lumina_jax import crosstalk, drift, explain
    assert crosstalk is importlib.import_module("lumina_jax.hardware.crosstalk")
    assert drift is importlib.import_module("lumina_jax.hardware.drift")
    assert callable(explain)


def test_pickles_with_old_names_load() -> None:
    old = (  # of a NoiseModel and a RingComb
        b"(ccopy_reg\n_reconstructor\np0\n(clumina_jax.noise\nNoiseModel\np1\nc__builtin__\n"
        b"object\np2\nNtp3\nRp4\n(dp5\nVrelative\np6\nF0.1\nsVshot\np7\nF0.0\nsVthermal\np8\n"
        b"F0.0\nsVweight\np9\nF0.0\nsbg0\n(clumina_jax.crosstalk\nRingComb\np10\ng2\nNtp11\n"
        b"Rp12\n(dp13\nVchannels\np14\nI2\nsVspacing\np15\nF1.3\nsVfinesse\np16\nNsVdetuning\n"
        b"p17\nF0.0\nsbtp18\n."
    )
    with pytest.warns(DeprecationWarning, match="has moved to"):
        noise, crosstalk = pickle.loads(old)
    assert noise == lumina_jax.NoiseModel(relative=0.1)
    assert crosstalk == lumina_jax.crosstalk.RingComb(channels=2, spacing=1.3)
