"""What every inpainter with a sliding window needs: which frames, which pixels, and joining them.

Nothing here knows a network. Frames are numbered within their shot, from 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mirrored(size: int, padded: int) -> npt.NDArray[np.intp]:
    """Indices (padded,) that extend an axis of `size` by its mirror image, as often as it takes.

    The edge is repeated: 0 1 2 becomes 0 1 2 2 1 0 0 1 ...
    """
    index = np.arange(padded) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)
