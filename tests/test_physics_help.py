"""help() of every public function of `physics` says what a user has to know to trust it."""

from __future__ import annotations

import inspect
import re

import pytest

from lumina_jax import physics

FUNCTIONS = [name for name in physics.__all__ if callable(getattr(physics, name))]
UNITS = (
    r"\b(dBm?|W|A|A/W|Hz|J|K|rad|bits?|m|m/K|no unit|units?)\b"
    r"|0 to 1|linewidths|photoelectrons"
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_has_formula_units_source_and_validity(name: str) -> None:
    text = inspect.getdoc(getattr(physics, name)) or ""
    formula = re.search(r"`[^`]*[=·/(^√][^`]*`|^ {4}\S.*=", text, re.MULTILINE)
    assert formula, "no formula"
    assert re.search(UNITS, text), "no unit"
    assert "Source: " in text
    assert re.search(r"Valid\s(for|to)\s|A\sbound from below", text)
