"""Hardware profiles: their parts, presets, files, former fields, and their explanation."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_jax import (
    HardwareProfile,
    NoiseModel,
    OpticalSpec,
    energy_report,
    explain,
    optical_matmul,
)
from lumina_jax.hardware import (
    Converters,
    Laser,
    Microring,
    OpticalPath,
    Photodetector,
    WavelengthGrid,
    WeightBank,
    presets,
)
from lumina_jax.hardware.crosstalk import (
    CrosstalkMatrix,
    NearestNeighbor,
    RingComb,
    fold_quantized,
)

FIT = """[fit]
a0 = -1
a1 = 0
a2 = 0
standard_errors = [0, 0, 0]
points = 3
skipped = []
worst = 0
"""
PRESETS = {
    # name: noise level, bits, drift, transmission, implied SNR in dB and ENOB
    "lumina_nano_v1": (0.15, 4, 0.05, 0.85, 16.5, 2.44),
    "lumina_micro_v1": (0.10, 8, 0.03, 0.90, 20.0, 3.03),
    "edge_ultra_low_power": (0.20, 2, 0.10, 0.75, 14.0, 2.03),
    "datacenter_high_precision": (0.05, 12, 0.01, 0.95, 26.0, 4.03),
    "custom": (0.10, 8, 0.0, 1.0, 20.0, 3.03),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    level, bits, drift, attenuation, *_ = PRESETS[name]
    profile = HardwareProfile.preset(name)
    assert profile.name == name
    assert (profile.bank.drift, profile.path.transmission) == (drift, attenuation)
    assert profile.spec == OpticalSpec(dac_bits=bits, weight_bits=bits, adc_bits=bits)
    assert profile.noise == NoiseModel(relative=level)


def test_overlay() -> None:
    nano, edge = map(HardwareProfile.preset, ("lumina_nano_v1", "edge_ultra_low_power"))
    assert (nano.converters.symbol_rate_hz, nano.detector.sensitivity_dbm) == (5e9, -17.5)
    assert nano.ring_fwhm_pm == pytest.approx(155)
    assert edge.ring_fwhm_pm == pytest.approx(310)
    custom = HardwareProfile.preset("custom")
    assert custom.converters.symbol_rate_hz is custom.detector.sensitivity_dbm is None
    assert custom.ring_fwhm_pm is None
    assert (custom.laser.power_dbm, custom.grid.channels) == (10.0, 16)


def test_unknown_preset() -> None:
    message = (
        "HardwareProfile.preset: unknown `name` 'nano', expected custom, "
        "datacenter_high_precision, edge_ultra_low_power, lumina_micro_v1, lumina_nano_v1"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        HardwareProfile.preset("nano")


def test_replace() -> None:
    nano = HardwareProfile.preset("lumina_nano_v1")
    profile = dataclasses.replace(nano, converters=Converters(dac_bits=6, adc_bits=None))
    assert profile.spec == OpticalSpec(dac_bits=6, weight_bits=8)
    assert profile.noise == nano.noise


def test_presets_print_with_their_sources() -> None:
    known = presets()
    assert set(known) == set(PRESETS)
    text = repr(known)
    for name, profile in known.items():
        assert name in text
        assert profile.source
        assert profile.source in text


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Converters(dac_bits=0), ValueError, "Converters: `dac_bits` must be from 1 to"),
        (lambda: Converters(adc_bits=8.0), TypeError,  # type: ignore[arg-type]
         "Converters: `adc_bits` must be an int or None, got 8.0"),
        (lambda: Converters(symbol_rate_hz=0), ValueError,
         "Converters: `symbol_rate_hz` must be above 0, got 0"),
        (lambda: WeightBank(rows=0), ValueError,
         "WeightBank: `rows` must be from 1 to 2147483647, got 0"),
        (lambda: WeightBank(columns=1.5), TypeError,  # type: ignore[arg-type]
         "WeightBank: `columns` must be an int, got 1.5"),
        (lambda: WeightBank(drift=1.5), ValueError,
         "WeightBank: `drift` must be at most 1, got 1.5"),
        (lambda: Microring(q="high"), TypeError,  # type: ignore[arg-type]
         "Microring: `q` must be a number, got 'high'"),
        (lambda: WavelengthGrid(channels=True), TypeError,
         "WavelengthGrid: `channels` must be an int, got True"),
        (lambda: Photodetector(responsivity_a_per_w=-1.0), ValueError,
         "Photodetector: `responsivity_a_per_w` must be above 0, got -1"),
        (lambda: Laser(rin_db_per_hz=140), ValueError,
         "Laser: `rin_db_per_hz` must be at most 0, got 140"),
        (lambda: Laser(power_dbm=None), TypeError,  # type: ignore[arg-type]
         "Laser: `power_dbm` must be a number, got None"),
        (lambda: Laser(power_dbm=math.nan), ValueError,
         "Laser: `power_dbm` must be finite, got nan"),
        (lambda: OpticalPath(transmission=0.0), ValueError,
         "OpticalPath: `transmission` must be above 0, got 0"),
        (lambda: OpticalPath(transmission=1.5), ValueError,
         "OpticalPath: `transmission` must be at most 1, got 1.5"),
        (lambda: HardwareProfile(laser=10.0), TypeError,  # type: ignore[arg-type]
         "HardwareProfile: `laser` is of type float, expected a Laser"),
        (lambda: HardwareProfile(noise=0.1), TypeError,  # type: ignore[arg-type]
         "HardwareProfile: `noise` is of type float, expected a NoiseModel"),
        (lambda: HardwareProfile(noise=NoiseModel(thermal=jnp.float32(1))), TypeError,
         "HardwareProfile: `noise.thermal` is of type ArrayImpl, expected a Python number; pass "
         "float(...)"),
        (lambda: HardwareProfile(crosstalk=NearestNeighbor(channels=17, coupling=0.1)), ValueError,
         "HardwareProfile: `crosstalk` is among 17 channels, expected at most the 16 of "
         "`grid.channels`"),
        (lambda: HardwareProfile(bank=WeightBank(rows=32)), ValueError,
         "HardwareProfile: `bank.rows` is 32, expected at most the 16 wavelengths of "
         "`grid.channels`"),
        (lambda: HardwareProfile(ring=Microring(fsr_nm=5.0)), ValueError,
         "HardwareProfile: `grid` takes 1.6 THz, expected at most the free spectral range, "
         "`ring.fsr_nm`=5 or 0.624 THz"),
        (lambda: HardwareProfile(ring=Microring(q=50.0)), ValueError,
         "HardwareProfile: `ring.q`=50 has a linewidth of 3.87e+03 GHz, expected less than the "
         "free spectral range, 1.6e+03 GHz"),
    ],
)  # fmt: skip
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_former_fields_warn_and_work() -> None:
    with pytest.warns(DeprecationWarning, match="`noise_level` is `noise.relative` now"):
        profile = HardwareProfile(noise_level=0.3, precision=4, laser_dbm=3.0)  # type: ignore[call-arg]
    assert profile == HardwareProfile(
        noise=NoiseModel(relative=0.3), converters=Converters.all(4), laser=Laser(power_dbm=3.0)
    )
    with pytest.warns(DeprecationWarning, match="`precision` is `converters.dac_bits`, "):
        assert profile.precision == 4
    with pytest.warns(DeprecationWarning, match="`attenuation` is `path.transmission` now"):
        assert profile.attenuation == 1.0
    mixed = dataclasses.replace(profile, converters=Converters(dac_bits=4, adc_bits=6))
    with (
        pytest.warns(DeprecationWarning, match="`precision` is"),
        pytest.raises(AttributeError, match="`precision` is not one number"),
    ):
        _ = mixed.precision
    with pytest.raises(AttributeError, match="HardwareProfile has no field 'colour'"):
        _ = profile.colour
    with pytest.raises(TypeError, match="colour"):
        HardwareProfile(colour="red")  # type: ignore[call-arg]


CROSSTALK = (
    None,
    CrosstalkMatrix([[1, 0.1], [0.1, 1]]),
    RingComb(channels=4, spacing=2.0),
    NearestNeighbor(channels=3, coupling=0.1),
)
BITS = st.one_of(st.none(), st.integers(1, 23))


@given(
    st.builds(Converters, dac_bits=BITS, weight_bits=BITS, adc_bits=BITS),
    st.builds(
        NoiseModel,
        relative=st.floats(0, 1),
        thermal=st.floats(0, 1e30),
        unit=st.sampled_from(("signal", "full_scale")),
    ),
    st.builds(Laser, power_dbm=st.floats(-99, 49)),
    st.sampled_from(CROSSTALK),
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
)
def test_files_keep_every_figure(
    tmp_path_factory: pytest.TempPathFactory,
    converters: Converters,
    noise: NoiseModel,
    laser: Laser,
    crosstalk: Any,
    source: str,
) -> None:
    profile = HardwareProfile(
        source=source, converters=converters, noise=noise, laser=laser, crosstalk=crosstalk
    )
    folder = tmp_path_factory.mktemp("profiles")
    for ending in ("toml", "json"):
        path = folder / f"chip.{ending}"
        profile.save(path)
        assert HardwareProfile.load(path) == profile
    json.loads((folder / "chip.json").read_text(), parse_constant=pytest.fail)
    assert HardwareProfile.from_dict(profile.to_dict()) == profile


def test_the_fit_is_kept(tmp_path: Path) -> None:
    table = tmp_path / "noise.csv"
    table.write_text("signal,noise\n" + "\n".join(f"{y},{0.1 + 0.1 * y}" for y in range(4)))
    profile = HardwareProfile.from_measurements(table, full_scale=3.0)
    assert math.isnan(profile.fit.reduced_chi_squared)  # type: ignore[union-attr]
    for ending in ("toml", "json"):
        profile.save(tmp_path / f"chip.{ending}")
        again = HardwareProfile.load(tmp_path / f"chip.{ending}")
        assert repr(again.fit) == repr(profile.fit)
        assert again == profile


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[noise]\nrelativ = 0.1", ValueError,
         "chip.toml: there is no figure `noise.relativ`, did you mean `noise.relative`?"),
        ("noise_level = 0.1", ValueError, "chip.toml: there is no figure `noise_level`"),
        ("[noise]\nrelative = 15", ValueError,
         "chip.toml: `noise`: NoiseModel: `relative` must be at most 1, got 15"),
        ("grid = 3", TypeError, "chip.toml: `grid` is 3, expected a table of figures"),
        ("[crosstalk]\nkind = 'comb'", ValueError,
         "chip.toml: `crosstalk.kind` is 'comb', expected one of matrix, ring_comb, "),
        ("[crosstalk]\nkind = 'matrix'", TypeError, "chip.toml: `crosstalk`: "),
        ("[noise", ValueError, "chip.toml is malformed: "),
        ("a = " + 5000 * "[", ValueError, "chip.toml is malformed: "),
        ("[grid]\nchannels = " + 5000 * "9", ValueError, "chip.toml is malformed: "),
        (b"name = '\xff'", ValueError, "chip.toml is malformed: "),
        ("name = 2020-01-01", TypeError, "`name` is of type date, expected a str"),
        ("name = 'a'\nname = 'b'", ValueError, "chip.toml is malformed: "),
        ("[grid]\nchannels = " + 400 * "9", ValueError, "`channels` must be from 1 to 65536"),
        ("[ring]\nq = nan", ValueError, "`q` must be finite, got nan"),
        ("crosstalk = 3", TypeError, "chip.toml: `crosstalk` is 3, expected a table of figures"),
        ("[crosstalk]\nkind = []", ValueError, "chip.toml: `crosstalk.kind` is [], expected one"),
        ("[crosstalk]\nkind = 'matrix'\nrows = [[1, [2]]]", ValueError, "`rows` is ragged"),
        ("[fit]\na0 = 1", TypeError, "chip.toml: `fit`: "),
        (FIT, ValueError, "chip.toml: `fit`: NoiseFit: `a0` must be at least 0, got -1"),
        (FIT.replace("-1", "1").replace("[0, 0, 0]", "[0]"), ValueError,
         "chip.toml: `fit`: NoiseFit: `standard_errors` must be three, got shape (1,)"),
        (FIT.replace("-1", "1").replace("worst = 0", "worst = -1"), ValueError,
         "chip.toml: `fit`: NoiseFit: `worst` must be at least 0, got -1"),
        (FIT.replace("-1", "1").replace("worst = 0", "worst = " + 400 * "9"), ValueError,
         "chip.toml: `fit`: NoiseFit: `worst` must be finite, got inf"),
        (FIT.replace("-1", "1").replace("[]", "['x']"), TypeError,
         "chip.toml: `fit`: NoiseFit: `skipped` must be an int, got 'x'"),
        (FIT.replace("-1", "1").replace("worst = 0", "worst = 'x'"), TypeError,
         "chip.toml: `fit`: NoiseFit: `worst` must be a number, got 'x'"),
    ],
)  # fmt: skip
def test_errors_of_files(
    tmp_path: Path, text: str | bytes, error: type[Exception], message: str
) -> None:
    path = tmp_path / "chip.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=re.escape(message)):
        HardwareProfile.load(path)


@pytest.mark.parametrize("text", ["", "[]", "3", '"x"', "null", "[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_no_profile(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chip.json"
    path.write_text(text)
    with pytest.raises((TypeError, ValueError), match=r"^HardwareProfile.load: `path` .*chip.json"):
        HardwareProfile.load(path)


@pytest.mark.parametrize("values", [None, 3, "name", [("name", "a")], np.eye(2)])
def test_a_profile_is_made_of_a_mapping(values: Any) -> None:
    with pytest.raises(TypeError, match=r"HardwareProfile.from_dict: `values` is of type"):
        HardwareProfile.from_dict(values)


PARTS = ("converters", "bank", "ring", "grid", "detector", "laser", "path")
EXTREMES = (0, 5e-324, 1e-300, 1e-42, 1e-30, 1e30, 3e38, 1e300, 10**400, -1e300, math.nan, math.inf)


def attempt(make: Callable[[], Any]) -> tuple[Any, str | None]:
    """What is made, or the text of the error."""
    try:
        return make(), None
    except (TypeError, ValueError) as error:
        return None, str(error)


@pytest.mark.parametrize("part", PARTS)
def test_figures_that_a_part_takes_serve_every_tool(tmp_path: Path, part: str) -> None:
    profile = HardwareProfile.preset("lumina_nano_v1")
    kind = type(getattr(profile, part))
    for figure in dataclasses.fields(kind):
        for value in EXTREMES:
            figures = {figure.name: value}
            changed, refused = attempt(
                lambda figures=figures: dataclasses.replace(
                    profile, **{part: dataclasses.replace(getattr(profile, part), **figures)}
                )
            )
            if refused is not None:
                # A part names its figure, and a profile those that contradict each other.
                assert re.match(rf"({kind.__name__}|HardwareProfile): `", refused), figures
                continue
            with np.errstate(all="raise"):
                explain(changed)
                assert math.isfinite(changed.fsr_hz), figures
                assert changed.linewidth_hz > 0, figures
                assert float(changed.link_budget.output_dbm(4)) < 50, figures
                report, refused = attempt(
                    lambda changed=changed: energy_report([(4, 8, 3)], changed)
                )
                if refused is None:
                    assert math.isfinite(report.total_j), figures
                else:
                    assert "energy_report: `profile` has a link that" in refused, figures
            changed.save(tmp_path / "chip.toml")
            assert HardwareProfile.load(tmp_path / "chip.toml") == changed


def test_endings_of_files(tmp_path: Path) -> None:
    for act in (HardwareProfile().save, HardwareProfile.load):
        with pytest.raises(ValueError, match=r"expected a name that ends in \.toml or \.json"):
            act(tmp_path / "chip.yaml")
    with pytest.raises(FileNotFoundError):
        HardwareProfile.load(tmp_path / "none.toml")


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text("[converters]\ndac_bits = 6\nadc_bits = 'off'\n[noise]\nthermal = 0.004\n")
    assert HardwareProfile.load(path) == HardwareProfile(
        converters=Converters(dac_bits=6, adc_bits=None), noise=NoiseModel(thermal=0.004)
    )


def test_text() -> None:
    profile = HardwareProfile(
        name="<chip>", noise=NoiseModel(thermal=0.01, unit="full_scale"), crosstalk=CROSSTALK[2]
    )
    text = str(profile)
    assert "thermal 0.01, on the scale of the full scale of the ADC" in text
    assert "RingComb, 4 channels" in text
    assert "&lt;chip&gt;" in profile._repr_html_()
    assert "none, on the scale of the signal" in str(HardwareProfile(noise=NoiseModel()))


@pytest.mark.parametrize("name", PRESETS)
def test_explain(name: str) -> None:
    *_, snr, enob = PRESETS[name]
    text = explain(name)
    assert text == explain(HardwareProfile.preset(name)) == repr(text)
    rows = {line.split()[0]: line.split()[-2:] for line in text.splitlines()}
    assert [float(v) for v in rows["noise"]] == [snr, enob]
    # A chain is worse than each of its stages.
    assert float(rows["chain"][1]) <= enob
    assert "ENOB = (SNR - 1.76) / 6.02, of a full-scale sine" in text


def test_explain_receiver() -> None:
    # The sensitivities of the presets are those of 3, 4, 2 and 6 bits.
    for name, bits in zip(PRESETS, (3, 4, 2, 6), strict=False):
        (line,) = re.findall(r"^receiver.*$", explain(HardwareProfile.preset(name)), re.MULTILINE)
        assert float(line.split()[-1]) == pytest.approx(bits, abs=0.02)
    assert "receiver" not in explain(HardwareProfile.preset("custom"))


def test_explain_table() -> None:
    assert explain(HardwareProfile.preset("lumina_nano_v1")).splitlines() == [
        "lumina_nano_v1: 4, 4, 4 bits for x, w, y, transmission 0.85 (-0.71 dB), drift 0.05",
        "stage                                      LSB    SNR dB    ENOB",
        "DAC x     4 bits, range of x             0.143      24.7    3.81",
        "DAC w     4 bits, range of w             0.143      24.7    3.81",
        "noise     relative 0.15 of y                 -      16.5    2.44",
        "ADC y     4 bits, range of y             0.143      24.7    3.81",
        "chain     all of the above                   -      14.9    2.18",
        "receiver  -17.5 dBm at 5 GS/s                -      19.8    3.00",
        "rings: Q 10000, FWHM 155 pm",
        "ENOB = (SNR - 1.76) / 6.02, of a full-scale sine; LSB in units of full scale",
    ]


def test_explain_extremes() -> None:
    quiet = explain(HardwareProfile(noise=NoiseModel(), converters=Converters.all(1)))
    assert re.search(r"^noise .* inf +inf$", quiet, re.MULTILINE)
    assert re.search(r"^ADC y +1 bits, range of y +2 +1\.8 +-?0\.00$", quiet, re.MULTILINE)


def test_explain_crosstalk() -> None:
    pair = CrosstalkMatrix([[1.0, 0.1, 0.0], [0.2, 0.8, 0.2], [0.0, 0.1, 1.0]])
    text = explain(HardwareProfile(crosstalk=pair))
    # The middle channel: 0.8² of its own over 2·0.2², and half as much light again from others.
    assert re.search(r"^crosstalk 3 channels, worst +- +9\.0 +1\.21$", text, re.MULTILINE)
    condition = np.linalg.cond(pair.matrix)
    assert f"-3.0 dB of light from all other channels, condition number {condition:.4g}" in text
    assert "crosstalk" not in explain(HardwareProfile())


def test_explain_crosstalk_extremes() -> None:
    alone = explain(HardwareProfile(crosstalk=CrosstalkMatrix([[1.0]])))
    assert re.search(r"^crosstalk 1 channels, worst .* inf +inf$", alone, re.MULTILINE)
    assert "-inf dB of light from all other channels, condition number 1" in alone
    swapped = explain(HardwareProfile(crosstalk=CrosstalkMatrix([[0.0, 1.0], [1.0, 0.0]])))
    assert re.search(r"^crosstalk 2 channels, worst .* -inf +-inf$", swapped, re.MULTILINE)


def test_explain_crosstalk_that_is_hardly_any() -> None:
    for coupling in (0, 5e-324, 1e-300):
        comb = NearestNeighbor(channels=4, coupling=coupling)
        with np.errstate(all="raise"):
            assert "crosstalk" in explain(HardwareProfile(crosstalk=comb))


def test_explain_wants_a_profile() -> None:
    expected = "explain: `profile` is of type int, expected a HardwareProfile or the name of a"
    with pytest.raises(TypeError, match=expected):
        explain(4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="explain: unknown `profile` 'nano', expected custom, "):
        explain("nano")


def test_explain_parts_that_are_off() -> None:
    off = explain(
        HardwareProfile(
            converters=Converters(adc_bits=None), noise=NoiseModel(thermal=0.01, unit="full_scale")
        )
    )
    assert re.search(r"^ADC y +off +- +inf +inf$", off, re.MULTILINE)
    assert re.search(r"^noise +σ 0.01 at full scale +- +40\.0 +6\.35$", off, re.MULTILINE)
    assert "<pre>" in off._repr_html_()


def test_the_op_takes_a_profile() -> None:
    x, w = jnp.float32(np.eye(4)), jnp.float32(np.linspace(-1, 1, 12).reshape(4, 3))
    comb = NearestNeighbor(channels=4, coupling=0.1)
    profile = HardwareProfile(
        path=OpticalPath(transmission=0.5), crosstalk=comb, converters=Converters.all(6)
    )
    key = jax.random.key(0)
    folded, spec = fold_quantized(0.5 * w, comb, profile.spec)
    noise = {"noise": profile.noise, "key": key}
    want = optical_matmul(x, folded, spec=spec, y_full_scale=1.0, **noise)
    got = optical_matmul(x, w, profile=profile, y_full_scale=1.0, key=key)
    np.testing.assert_array_equal(got, want)
    quiet = optical_matmul(
        x, w, profile="lumina_nano_v1", y_full_scale=1.0, noise=NoiseModel(), key=key
    )
    nano = HardwareProfile.preset("lumina_nano_v1")
    np.testing.assert_array_equal(
        quiet, optical_matmul(x, w * 0.85, spec=nano.spec, y_full_scale=1.0)
    )
    with pytest.raises(ValueError, match=r"`noise` needs a `key`, got None; pass key=jax.random"):
        optical_matmul(x, w, profile="lumina_nano_v1", y_full_scale=1.0)
    with pytest.raises(
        TypeError, match="`spec` must be an OpticalSpec, got NoneType; pass one, or a `profile`"
    ):
        optical_matmul(x, w)
