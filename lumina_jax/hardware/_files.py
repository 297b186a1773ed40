"""Profiles as dictionaries, files and text."""

from __future__ import annotations

import difflib
import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from .._arguments import file_path, instance
from .._files import write
from .._html import table
from .crosstalk import CrosstalkMatrix, NearestNeighbor, RingComb
from .measurements import NoiseFit
from .noise import NoiseModel
from .parts import Part

_P = TypeVar("_P")

_CROSSTALK = {"matrix": CrosstalkMatrix, "ring_comb": RingComb, "nearest_neighbor": NearestNeighbor}


_OFF = "off"
"""A converter that there is not: files have no word for None where a figure left out has another
value."""


def to_dict(profile: Any) -> dict[str, Any]:
    """Parts as dictionaries of their figures; crosstalk says its kind."""
    values = asdict(profile)
    converters, fit = values["converters"], values["fit"]
    for name in ("dac_bits", "weight_bits", "adc_bits"):
        converters[name] = _OFF if converters[name] is None else converters[name]
    if fit is not None:
        values["fit"] = {name: None if value != value else value for name, value in fit.items()}
    if profile.crosstalk is not None:
        kind = next(name for name, of in _CROSSTALK.items() if isinstance(profile.crosstalk, of))
        values["crosstalk"] = {"kind": kind, **values["crosstalk"]}
    return values


def from_dict(cls: type[_P], values: Mapping[str, Any], op: str) -> _P:
    """The profile of such a dictionary."""
    instance(op, "values", values, Mapping, "a mapping of figures")
    defaults = cls()
    given = {}
    for name, value in _known(op, "", values, cls).items():
        part = getattr(defaults, name)
        if name == "crosstalk" and value is not None:
            given[name] = _crosstalk(op, value)
        elif name == "fit" and value is not None:
            given[name] = _made(op, name, NoiseFit, _fit(value))
        elif is_dataclass(part):
            kind = NoiseModel if name == "noise" else type(part)
            given[name] = _made(
                op, name, kind, _without_off(value) if name == "converters" else value
            )
        else:
            given[name] = value
    return cls(**given)


def _crosstalk(op: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"{op}: `crosstalk` is {value!r}, expected a table of figures")
    figures = dict(value)
    kind = figures.pop("kind", None)
    if not isinstance(kind, str) or kind not in _CROSSTALK:
        known = ", ".join(_CROSSTALK)
        raise ValueError(f"{op}: `crosstalk.kind` is {kind!r}, expected one of {known}")
    return _made(op, "crosstalk", _CROSSTALK[kind], figures)


def _made(op: str, part: str, kind: Callable[..., Any], figures: Any) -> Any:
    if not isinstance(figures, Mapping):
        raise TypeError(f"{op}: `{part}` is {figures!r}, expected a table of figures")
    try:
        return kind(**_known(op, f"{part}.", figures, kind))
    except (TypeError, ValueError) as error:
        if str(error).startswith(op):
            raise
        raise type(error)(f"{op}: `{part}`: {error}") from None


def _known(op: str, prefix: str, figures: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The figures, once each is one that `kind` has."""
    names = [entry.name for entry in fields(kind)]
    for name in figures:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f", did you mean `{prefix}{near[0]}`?" if near else f", expected {names}"
            raise ValueError(f"{op}: there is no figure `{prefix}{name}`{hint}")
    return dict(figures)


def _without_off(figures: Any) -> Any:
    if not isinstance(figures, Mapping):
        return figures
    return {
        name: None if isinstance(value, str) and value == _OFF else value
        for name, value in figures.items()
    }


def _fit(figures: Any) -> Any:
    """Lists as the tuples that they were, and what is not known as NaN."""
    if not isinstance(figures, Mapping):
        return figures
    unknown = dict.fromkeys(("r_squared", "reduced_chi_squared"), math.nan)
    given = {name: value for name, value in figures.items() if value is not None}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in {**unknown, **given}.items()
    }


def load(cls: type[_P], path: str | os.PathLike[str]) -> _P:
    """The profile in a TOML or JSON file."""
    op = "HardwareProfile.load"
    path = file_path(op, "path", path)
    parse = {".toml": tomllib.loads, ".json": json.loads}[_ending(op, path)]
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{op}: `path` {path} is malformed: {error}") from None
    except RecursionError:
        raise ValueError(f"{op}: `path` {path} is malformed: it is nested too deeply") from None
    if not isinstance(values, Mapping):
        raise TypeError(f"{op}: `path` {path} holds {type(values).__name__}, expected a table")
    return from_dict(cls, values, f"{op}: {path.name}")


def save(profile: Any, path: str | os.PathLike[str]) -> None:
    """Writes a TOML or JSON file."""
    op = "HardwareProfile.save"
    path = file_path(op, "path", path)
    ending = _ending(op, path)
    values = to_dict(profile)
    # TOML has no null: what is None is left out, which reads as None.
    text = (
        json.dumps(values, indent=2) if ending == ".json" else tomli_w.dumps(_without_none(values))
    )
    write(path, [(text.rstrip("\n") + "\n").encode()])


def _ending(op: str, path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in (".toml", ".json"):
        raise ValueError(
            f"{op}: `path` is {str(path)!r}, expected a name that ends in .toml or .json"
        )
    return ending


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(of) for name, of in value.items() if of is not None}
    return value


def rows(profile: Any) -> list[tuple[str, str]]:
    """What a profile says, part by part, for those who read it."""
    lines = [("source", profile.source)] if profile.source else []
    for entry in fields(profile):
        part = getattr(profile, entry.name)
        if entry.name == "noise":
            lines.append(("noise", _noise(part)))
        elif entry.name == "crosstalk" and part is not None:
            lines.append(("crosstalk", f"{type(part).__name__}, {part.channels} channels"))
        elif entry.name == "fit" and part is not None:
            lines.append(("fit", str(part).replace("\n", "; ")))
        elif isinstance(part, Part):
            figures = (f"{f.name} {_figure(getattr(part, f.name))}" for f in fields(part))
            lines.append((part.title, ", ".join(figures)))
    return lines


def _noise(noise: NoiseModel) -> str:
    std = {name: getattr(noise, name) for name in ("relative", "shot", "thermal", "weight")}
    figures = ", ".join(f"{name} {value:g}" for name, value in std.items() if value)
    of = "full scale of the ADC" if noise.unit == "full_scale" else "signal"
    return f"{figures or 'none'}, on the scale of the {of}"


def _figure(value: Any) -> str:
    return "not given" if value is None else f"{value:g}"


def text(profile: Any) -> str:
    """`rows` as lines."""
    return "\n".join([profile.name, *(f"  {name:<12}{what}" for name, what in rows(profile))])


def html(profile: Any) -> str:
    """`rows` as a table."""
    return table(profile.name, ("part", "figures"), rows(profile))
