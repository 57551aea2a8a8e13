"""Signed distances of plane figures on a pixel grid, many images at a time.

Every function takes coordinates as float64 [N, H, W] and returns the distance to the figure's edge
in pixels, negative inside, of the same shape. Only + - * / sqrt, min, max and floor are used: IEEE
754 fixes their last bit, so a figure has the same bytes on every machine. (Sines come from a
rounded table for the same reason: libm's last bit varies.)
"""

import math

import numpy as np

_DEGREES = np.arange(360)
_COS = np.array([round(math.cos(math.radians(d)), 6) for d in _DEGREES])
_SIN = np.array([round(math.sin(math.radians(d)), 6) for d in _DEGREES])


def direction(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (cos, sin) of whole degrees, rounded to 6 digits."""
    degrees = np.asarray(degrees, dtype=np.int64) % 360
    return _COS[degrees], _SIN[degrees]


def coverage(distance: np.ndarray) -> np.ndarray:
    """Returns how much of each pixel a figure covers, 0 to 1: an edge one pixel soft."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def regular_polygon(points: int, turn: int) -> np.ndarray:
    """Returns the vertices [points, 2] of a regular polygon in the unit circle, the first at `turn`
    degrees; y grows downwards."""
    cos, sin = direction(turn + 360 * np.arange(points) // points)
    return np.stack([cos, sin], axis=-1)


def star_polygon(points: int, inner: float) -> np.ndarray:
    """Returns the vertices [2 * points, 2] of a star, a tip upwards, of inner radius `inner`."""
    corners = regular_polygon(2 * points, turn=-90)
    corners[1::2] *= inner
    return corners


def cross_polygon(arm: float) -> np.ndarray:
    """Returns the 12 vertices of a cross in the unit square whose arms are 2 * `arm` wide."""
    quarter = [(1.0, -arm), (1.0, arm), (arm, arm)]
    corners = []
    for _ in range(4):
        corners += quarter
        quarter = [(-y, x) for x, y in quarter]
    return np.array(corners)


def disc(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Distance to a disc around the origin."""
    return np.sqrt(x * x + y * y) - radius


def segment(x, y, x0, y0, x1, y1) -> np.ndarray:
    """Distance to the line segment from (x0, y0) to (x1, y1): never negative."""
    along_x, along_y = x1 - x0, y1 - y0
    length2 = along_x * along_x + along_y * along_y
    t = ((x - x0) * along_x + (y - y0) * along_y) / np.maximum(length2, 1e-9)
    t = np.clip(t, 0.0, 1.0)
    off_x, off_y = x - x0 - t * along_x, y - y0 - t * along_y
    return np.sqrt(off_x * off_x + off_y * off_y)


def polygon(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distance to a polygon with vertices `corners` float64 [N, V, 2], convex or not."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for i in range(corners.shape[1]):
        x0, y0 = (corners[:, i, k, None, None] for k in (0, 1))
        x1, y1 = (corners[:, i - 1, k, None, None] for k in (0, 1))
        nearest = np.minimum(nearest, segment(x, y, x0, y0, x1, y1))
        # Even-odd rule: a point is inside if a ray to its right crosses an odd number of edges.
        rise = np.where(y1 == y0, 1.0, y1 - y0)
        crosses = ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / rise)
        inside ^= crosses
    return np.where(inside, -nearest, nearest)


def stripes(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Distance to stripes along y, half a period wide."""
    phase = x / period
    phase = phase - np.floor(phase)
    return (np.abs(phase - 0.5) - 0.25) * period


def dots(x: np.ndarray, y: np.ndarray, period: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Distance to discs on a square lattice."""
    x = x / period
    y = y / period
    x = (x - np.floor(x) - 0.5) * period
    y = (y - np.floor(y) - 0.5) * period
    return disc(x, y, radius)
