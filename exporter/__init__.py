"""Writes JAX functions as `.lmn` files, which the `lumina` runtime loads without Python.

```python
from lumina_jax import export

model = export.export(lambda x: net.apply(variables, x), x, batch="batch")
print(model)
model.save("net.lmn")
```
"""

from ._errors import ExportError, SaveError
from ._export import export
from ._model import Model, TestVector

# `lumina_jax.export` knows its package by this line.
__distribution__ = "lumina-jax"

__all__ = ["ExportError", "Model", "SaveError", "TestVector", "export"]
