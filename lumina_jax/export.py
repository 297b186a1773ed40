"""The package `exporter`: JAX functions as `.lmn` files, which run without Python."""

from typing import TYPE_CHECKING

from ._siblings import adopt

if TYPE_CHECKING:
    from exporter import *  # noqa: F403

adopt(__name__, "exporter")
