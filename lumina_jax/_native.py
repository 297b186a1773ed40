"""The Rust module: imported here and nowhere else, so that its absence has one explanation.

Importing this file registers the XLA CPU target ``lumina.NAME.v1`` of every op.
"""

import jax

try:
    from . import _lumina
except ImportError as error:
    raise ImportError(
        "lumina_jax is not built for this Python: run `pip install .` in its source directory "
        "(needs a Rust toolchain)"
    ) from error

for _name, _capsule in _lumina.registrations():
    jax.ffi.register_ffi_target(_name, _capsule, platform="cpu", api_version=1)
