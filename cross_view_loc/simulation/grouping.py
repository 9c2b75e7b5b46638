"""Objects from loose parts: what lies close together belongs together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


def groups_of_near(points: ArrayLike, distance_m: float) -> tuple[int, NDArray[np.int32]]:
    """Number of groups, and the group (N,) of each point (N, D): chains of neighbours no further apart than this."""
    places = np.asarray(points, dtype=np.float64)
    if not len(places):
        return 0, np.zeros(0, dtype=np.int32)
    pairs = cKDTree(places).query_pairs(distance_m, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(places), len(places)))
    count, labels = connected_components(links, directed=False)
    return int(count), labels
