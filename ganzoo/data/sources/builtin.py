"""Data that is there on every machine: scikit-learn's handwritten digits, real data inside a dependency.

1,797 digits of 8×8 pixels with values from 0 to 16, from 43 people: the test set of the UCI "Optical Recognition of
Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998; CC BY 4.0).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ganzoo.data.sources.base import ArraySource
from ganzoo.errors import MissingDependencyError, UsageError

_LARGEST_VALUE = 16
_SIZE = 64


def open_digits(argument: str = "") -> ArraySource:
    """Return the digits with labels 0 to 9, enlarged from 8×8 to 64×64 pixels; requests resize from there.

    They are enlarged by cubic convolution, whose only negative lobe falls below black: Lanczos would leave faint echoes
    of each stroke in the background, and a generator would learn to draw them.

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
    small = np.rint(bundle.images / _LARGEST_VALUE * 255).astype(np.uint8)
    large = [Image.fromarray(digit).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC) for digit in small]
    return ArraySource(
        np.stack([np.asarray(digit) for digit in large]),
        bundle.target.astype(np.int64),
        description="scikit-learn's digits",
        classes=tuple(str(digit) for digit in range(10)),
        notice="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI 1998, CC BY 4.0",
    )
