"""Planning of wavelength-division multiplexing: which stream on which wavelength, how close.

`allocate` orders streams on the slots of a bus, `compress` finds the closest spacing, and
`WDMPlanner` does the former for all optical layers of a model.
"""

from ._allocate import allocate
from ._compress import CompressionError, compress, stream_enob
from ._objectives import Objective
from ._plan import Bus, Plan, Stream
from ._ring import Grid, Ring
from ._wdm import WDMPlanner

__all__ = [
    "Bus",
    "CompressionError",
    "Grid",
    "Objective",
    "Plan",
    "Ring",
    "Stream",
    "WDMPlanner",
    "allocate",
    "compress",
    "stream_enob",
]
