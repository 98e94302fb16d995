"""Data that is there on every machine: scikit-learn's handwritten digits, real data inside a dependency.

1,797 digits of 8×8 pixels with values from 0 to 16, from 43 people: the test set of the UCI "Optical Recognition of
Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998; CC BY 4.0).
"""

from __future__ import annotations

import numpy as np

from ganzoo.data.sources.base import ArraySource
from ganzoo.errors import MissingDependencyError, UsageError

_LARGEST_VALUE = 16


def open_digits(argument: str = "") -> ArraySource:
    """Return the digits as grey images of 8×8 pixels with labels 0 to 9; the request's resampling enlarges them.

    Args:
        argument: nothing; the source takes none.

    Raises:
        UsageError: there is an argument.
        MissingDependencyError: scikit-learn cannot be imported.
    """
    if argument:
        raise UsageError(f"The source 'digits' takes no argument, not {argument!r}.")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError(
            f"scikit-learn cannot be imported: {error}.", "Run `pip install scikit-learn`."
        ) from error
    bundle = load_digits()
    levels = bundle.images / _LARGEST_VALUE
    return ArraySource(
        np.rint(levels * 255).astype(np.uint8),
        bundle.target.astype(np.int64),
        description="scikit-learn's digits",
        classes=tuple(str(digit) for digit in range(10)),
        notice="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI 1998, CC BY 4.0",
    )
