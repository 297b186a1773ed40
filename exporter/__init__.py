"""JAX functions as `.lmn` files, which the `lumina` runtime loads without Python.

```python
from lumina_jax import export

model = export.export(lambda x: net.apply(variables, x), x, batch="batch")
print(model)
model.save("net.lmn")
export.load("net.lmn").weights
```
"""

from ._calibration import UncalibratedRangesWarning
from ._errors import ExportError, LoadError, SaveError, ScheduleWarning, VerifyError
from ._export import export
from ._graph import TestVector
from ._model import Model, load
from ._schedule import Schedule

# `lumina_jax.export` knows its package by this line.
__distribution__ = "lumina-jax"

__all__ = [
    "ExportError",
    "LoadError",
    "Model",
    "SaveError",
    "Schedule",
    "ScheduleWarning",
    "TestVector",
    "UncalibratedRangesWarning",
    "VerifyError",
    "export",
    "load",
]
