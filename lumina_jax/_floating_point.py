"""What floating-point errors do in our functions: the same in every program.

A program may have set `np.seterr(all="raise")` as a guard for its own arithmetic. Here underflow to
zero is meant, and infinities are looked for where they matter. So functions that compute with NumPy
run under its defaults, whatever the caller has set, and their results do not depend on it.
"""

import numpy as np

numpy_defaults = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""Decorator of such a function; the caller's setting is back when it returns."""
