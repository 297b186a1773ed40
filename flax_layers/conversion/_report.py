"""What a conversion did to each layer."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lumina_jax import _html

from ._rules import ConversionRule, first_match

_BY_RULE = "its rule says so"
_HEAD = ("layer", "Flax", "becomes", "rule", "because")


@dataclass(frozen=True, kw_only=True)
class ConvertedLayer:
    """One layer of a converted model."""

    path: str
    """Where it is, names joined by "/"."""
    flax: str
    """Name of the class that it was written as."""
    optical: str | None
    """Name of the class that runs in its place; None: it stays digital."""
    rule: int | None
    """Place of the rule that matched first."""
    reason: str
    """Why it stays digital, or what of it does; empty where there is nothing to say."""


class ConversionReport:
    """What became optical, what did not, and why; `str` is a table.

    That of a Linen model fills as its layers are traced, by `init` or by `apply`.
    """

    def __init__(self, rules: Sequence[ConversionRule]) -> None:
        self.rules = tuple(rules)
        self._layers: dict[str, ConvertedLayer] = {}

    @property
    def layers(self) -> tuple[ConvertedLayer, ...]:
        """The layers that have products of matrices, in the order in which they were met."""
        return tuple(self._layers.values())

    @property
    def unmatched(self) -> tuple[int, ...]:
        """Places of the rules that were the first for no layer."""
        used = {layer.rule for layer in self.layers}
        return tuple(i for i in range(len(self.rules)) if i not in used)

    def to_json(self) -> str:
        """The report as JSON, the keys being the names of the fields."""
        content = {
            "layers": [asdict(layer) for layer in self.layers],
            "unmatched": [self.rules[i].module_path for i in self.unmatched],
        }
        return json.dumps(content, indent=2, ensure_ascii=False)

    def decide(self, path: str, flax: str, optical: str, reason: str) -> ConversionRule | None:
        """Notes a layer; the rule that it follows, None where it stays digital.

        Args:
            path, flax: as in `ConvertedLayer`.
            optical: class that would run in its place.
            reason: why none can; "" where one can.
        """
        i = first_match(self.rules, path)
        rule = None if i is None else self.rules[i]
        if rule is None:
            reason = "no rule matches"
        elif rule.digital:
            reason = _BY_RULE
        goes = rule if not reason else None
        self._layers[path] = ConvertedLayer(
            path=path,
            flax=flax,
            optical=optical if goes else None,
            rule=i,
            reason=reason,
        )
        return goes

    def note(self, path: str, remark: str) -> None:
        """Adds a remark on a layer that is optical."""
        self._layers[path] = dataclasses.replace(self._layers[path], reason=remark)

    def stays(self, path: str, flax: str, reason: str) -> None:
        """Notes a layer that stays digital whatever the rules say of it."""
        i = first_match(self.rules, path)
        if i is not None and self.rules[i].digital:
            reason = _BY_RULE
        self._layers[path] = ConvertedLayer(
            path=path, flax=flax, optical=None, rule=i, reason=reason
        )

    def warn_unmatched(self, stacklevel: int) -> None:
        """Warns of rules that are the first for no layer, and says which layers there are."""
        for i in self.unmatched:
            path = self.rules[i].module_path
            own = (self.rules[i],)
            taken = [layer.path for layer in self.layers if first_match(own, layer.path) == 0]
            if taken:
                why = f"earlier ones take what it matches, such as {taken[0]!r}"
            else:
                paths = ", ".join(layer.path for layer in self.layers)
                why = f"there are {paths}" if paths else "there is none that convert knows"
            warnings.warn(
                f"convert: rule {i}, `module_path` {path!r}, is the first for no layer; {why}",
                stacklevel=stacklevel + 1,
            )

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                layer.path or ".",
                layer.flax,
                layer.optical or "-",
                "-" if layer.rule is None else str(layer.rule),
                layer.reason,
            )
            for layer in self.layers
        ]

    def __repr__(self) -> str:
        optical = sum(layer.optical is not None for layer in self.layers)
        return f"ConversionReport: {optical} of {len(self.layers)} layers are optical"

    def _repr_html_(self) -> str:
        return _html.table(repr(self), _HEAD, self._rows())

    def __str__(self) -> str:
        if not self.layers:
            return f"{self!r}; layers of a Linen model are seen when it is initialized or applied"
        return f"{self!r}\n\n{_html.plain(_HEAD, self._rows())}"
