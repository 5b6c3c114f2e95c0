"""Numbers that numba's kernels read whether they are kept as floats or as the bits of halves."""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import overload

# The float of every half: numba knows no halves, and looking one up is as fast as converting it.
FLOATS = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def as_float(value, floats):
    """A number kept as a float, or as the bits of a half; for kernels alone. ``floats`` is ``FLOATS``."""
    raise NotImplementedError


@overload(as_float)
def _as_float(value, floats):
    if isinstance(value, numba.types.Integer):
        return lambda value, floats: floats[value]
    return lambda value, floats: value
