"""The one interface that parity and profiling see."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]


class Runtime(Protocol):
    """A loaded artefact."""

    executed_by: str
    """Which runtime computes, with its version: ``executorch 1.5.1``."""

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point on arrays of exactly the declared names, dtypes and shapes."""
        ...
