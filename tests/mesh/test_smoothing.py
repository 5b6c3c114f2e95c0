"""The smoothed distance field against scipy's Gaussian filter."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from omni_gen3d.mesh.smoothing import smooth_unseen
from omni_gen3d.mesh.tsdf import MIN_DISTANCE, Tsdf


def test_unseen_is_blurred_to_the_bit_and_the_rest_stays() -> None:
    """Away from seen surfaces and the floor the field is scipy's, held on its side of 0; elsewhere it is as it was."""
    rng = np.random.default_rng(0)
    distance = np.where(rng.random((21, 19, 24)) < 0.5, 1.0, -1.0).astype(np.float32)
    distance[5:9] = rng.uniform(-1, 1, (4, 19, 24)).astype(np.float32)
    seen = np.zeros(distance.shape, np.bool_)
    seen[15, 4, 12] = seen[3, 18, 23] = True
    tsdf = Tsdf(distance, seen, np.array([0.0, 0.0, -0.1]), 0.05)
    evident = ndimage.binary_dilation(seen, np.ones((3, 3, 3)))
    evident[:, :, : tsdf.ground + 2] = True
    blurred = ndimage.gaussian_filter(distance, 1.0, mode="nearest")
    held = np.where(tsdf.free, np.maximum(blurred, MIN_DISTANCE), np.minimum(blurred, -MIN_DISTANCE))
    smooth = smooth_unseen(tsdf)
    assert smooth.dtype == np.float32
    np.testing.assert_array_equal(smooth, np.where(evident, distance, held))
    np.testing.assert_array_equal(smooth > 0, tsdf.free)
