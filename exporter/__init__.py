"""Writes JAX functions as `.lmn` files, which the `lumina` runtime loads without Python.

```python
import exporter

model = exporter.export(lambda x: net.apply(variables, x), x, batch="batch")
print(model)
model.save("net.lmn")
```
"""

from ._errors import ExportError, SaveError
from ._export import export
from ._model import Model, TestVector

__all__ = ["ExportError", "Model", "SaveError", "TestVector", "export"]
