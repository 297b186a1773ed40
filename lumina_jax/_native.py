"""The Rust module: imported here and nowhere else, so that its absence has one explanation."""

try:
    from . import _lumina as _lumina
except ImportError as error:
    raise ImportError(
        "lumina_jax is not built for this Python: run `pip install .` in its source directory "
        "(needs a Rust toolchain)"
    ) from error

__version__ = _lumina.version()
"""Of the Rust module and so of the package."""
