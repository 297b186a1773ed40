"""The Array API standard on a simulated photonic processor.

`namespace(device, key=...)` is a namespace of the standard whose matrix products run on the device:
code that is written against the standard needs no change. docs/array_api.md explains it.
"""

from ._array import OpticalArray
from ._namespace import Namespace, namespace

__all__ = ["Namespace", "OpticalArray", "namespace"]
