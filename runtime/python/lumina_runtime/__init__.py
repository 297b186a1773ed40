"""Runs `.lmn` models of Lumina-JAX, without JAX.

```python
import lumina_runtime

model = lumina_runtime.Model("model.lmn")
y = model(x)
```

`Session` has threads, limits and states of its own. `lumina_runtime.testing` tests operators of the
C ABI. NumPy is imported by the first call that makes an array.
"""

# The build makes the module.
from ._native import Model, Session, TensorInfo  # pyright: ignore[reportMissingImports]
from ._native import version as __version__  # pyright: ignore[reportMissingImports]

__all__ = ["Model", "Session", "TensorInfo", "__version__"]
