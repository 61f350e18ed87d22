"""Names for the array types used throughout: kind and bytes per element, as in numpy's own codes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

F8: TypeAlias = NDArray[np.float64]
F4: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
I8: TypeAlias = NDArray[np.int64]
I4: TypeAlias = NDArray[np.int32]
I2: TypeAlias = NDArray[np.int16]
Mask: TypeAlias = NDArray[np.bool_]
