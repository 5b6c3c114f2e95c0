"""Compiled kernels of the cpu backend: EWA projection, lists of splats per tile, front-to-back compositing.

The image model is 3D Gaussian splatting's (Kerbl et al. 2023) with the constants of gsplat 1.5. The order of every sum
is fixed by the data and never by the number of threads.

A projected Gaussian is stored as the profile that a row of pixels sees: along the row at height ``dy`` above or below
its centre it is a 1D Gaussian with mean ``u + shear * dy`` and variance ``var_row``, weighted by
``exp(-dy^2 / (2 var_y))``. Unlike the quadratic form, that has no differences of large numbers for long thin splats.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from omni_gen3d.render.halves import as_float

TILE = 16
BLUR = 0.3  # variance of a pixel [pixel^2], added to every projection
MIN_ALPHA = 1 / 255
GUARD = 0.15  # how far outside the picture, in picture sizes, the linearisation point may lie

# Columns of the table of projected Gaussians.
U, V, VAR_Y, SHEAR, VAR_ROW, RIGHTMOST_DY, CUT, DEPTH = range(8)
COLUMNS = 8

# Rows of a tile's state: TILE values of each quantity, one quantity after the other.
_TRANSMITTANCE, _LIVE, _RED, _GREEN, _BLUE, _DEPTH, _STOP = (TILE * k for k in range(7))

_WIDEST_CUT = 2 * math.log(1 / MIN_ALPHA)
_BLOCK = 1024  # Gaussians that one thread projects in one go
_PARTS = 32  # parts in which splats are listed

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_MIN_ALPHA, _MAX_ALPHA, _MIN_TRANSMITTANCE = np.float32(MIN_ALPHA), np.float32(0.999), np.float32(1e-4)
_LOG2_E, _LN_2 = np.float32(1 / math.log(2)), np.float32(math.log(2))
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(7))
_FAST = {"contract", "reassoc", "nsz"}  # everything of fastmath that does not assume finite numbers


@numba.njit(parallel=True, nogil=True, cache=True)
def choose(
    centres, radii, reaches, first, count, size, to_camera, stretch, intrinsics, width, height, near, far, pixels
):
    """Which Gaussians of a set in groups a camera needs: of each group that it can see the level that is fine enough.

    Nothing that ``project`` keeps of the first levels is lost: its bounds, times the depth, are planes.

    Args:
        centres, radii, reaches, first, count, size: As in ``detail.GroupedSplats``.
        to_camera: From the frame of the set, float64, shape ``(4, 4)``.
        stretch: The largest factor by which it lengthens anything.
        intrinsics, width, height, near, far: As for ``project``.
        pixels: Detail finer than this is merged [pixels].

    Returns:
        Their indices, int32.
    """
    levels = np.full(len(centres), -1, np.int32)
    focal = max(intrinsics[0, 0], intrinsics[1, 1])
    blur = math.sqrt(_WIDEST_CUT * BLUR)
    for g in numba.prange(len(centres)):
        x, y, z = np.float64(centres[g, 0]), np.float64(centres[g, 1]), np.float64(centres[g, 2])
        depth = to_camera[2, 0] * x + to_camera[2, 1] * y + to_camera[2, 2] * z + to_camera[2, 3]
        radius, reach = 1.0001 * stretch * radii[g] + 1e-5, stretch * reaches[g]
        if depth + radius < near or depth - radius > far:
            continue
        inside = True
        for axis in range(2):
            f, p = intrinsics[axis, axis], intrinsics[axis, 2]
            side = width if axis == 0 else height
            across = to_camera[axis, 0] * x + to_camera[axis, 1] * y + to_camera[axis, 2] * z + to_camera[axis, 3]
            steepest = max((p + GUARD * side) / f, ((1 + GUARD) * side - p) / f)
            spread = f * reach * math.sqrt(1 + steepest * steepest)
            low, high = p + blur, side - p + blur
            inside &= f * across + low * depth + radius * math.sqrt(f * f + low * low) + spread >= 0
            inside &= high * depth - f * across + radius * math.sqrt(f * f + high * high) + spread >= 0
        if inside:
            footprint = pixels * max(depth - radius, near) / (focal * stretch)
            level = 0
            while level + 1 < len(size) and size[level + 1] <= footprint:
                level += 1
            levels[g] = level
    ends = np.zeros(len(centres) + 1, np.int64)
    for g in range(len(centres)):
        ends[g + 1] = ends[g] + (count[g, levels[g]] if levels[g] >= 0 else 0)
    chosen = np.empty(ends[-1], np.int32)
    for g in numba.prange(len(centres)):
        if levels[g] >= 0:
            begin = first[g, levels[g]]
            for k in range(ends[g + 1] - ends[g]):
                chosen[ends[g] + k] = begin + k
    return chosen


@numba.njit(parallel=True, nogil=True, cache=True)
def project(means, quats, scales, opacities, floats, chosen, world_to_camera, intrinsics, width, height, near, far):
    """Project Gaussians into one camera (EWA splatting, Zwicker et al. 2001, eq. 20-31).

    Args:
        means: float32, shape ``(N, 3)``.
        quats, scales, opacities: float32 or the bits of halves, shapes ``(N, 4)``, ``(N, 3)``, ``(N,)``.
        floats: ``halves.FLOATS``.
        chosen: Indices of those that are looked at, int32.
        world_to_camera: From the frame of the Gaussians; any affine map, float64, shape ``(4, 4)``.
        intrinsics: float64, shape ``(3, 3)``.
        width, height: Image size [pixels].
        near, far: Depths between which a centre must lie [m].

    Returns:
        Those that the camera sees, in the order of the Gaussians: float64, shape ``(M, COLUMNS)`` [pixels, metres],
        and which Gaussians they are, int32, shape ``(M,)``.
    """
    count = len(chosen)
    # Of a linear map no direction grows by more than the norm of its entries.
    stretch = math.sqrt((world_to_camera[:3, :3] ** 2).sum())
    blocks = (count + _BLOCK - 1) // _BLOCK
    splats, which = np.empty((count, COLUMNS)), np.empty(count, np.int32)
    ends = np.zeros(blocks + 1, np.int64)
    for block in numba.prange(blocks):
        kept = block * _BLOCK
        quat, scale = np.empty(4), np.empty(3)
        for row in range(block * _BLOCK, min(count, (block + 1) * _BLOCK)):
            i = chosen[row]
            for k in range(4):
                quat[k] = as_float(quats[i, k], floats)
            for k in range(3):
                scale[k] = as_float(scales[i, k], floats)
            if _project_one(
                means[i],
                quat,
                scale,
                np.float64(as_float(opacities[i], floats)),
                world_to_camera,
                stretch,
                intrinsics,
                width,
                height,
                near,
                far,
                splats[kept],
            ):
                which[kept] = i
                kept += 1
        ends[block + 1] = kept - block * _BLOCK
    ends = np.cumsum(ends)
    seen, which_seen = np.empty((ends[-1], COLUMNS)), np.empty(ends[-1], np.int32)
    for block in numba.prange(blocks):
        begin = block * _BLOCK
        size = ends[block + 1] - ends[block]
        seen[ends[block] : ends[block + 1]] = splats[begin : begin + size]
        which_seen[ends[block] : ends[block + 1]] = which[begin : begin + size]
    return seen, which_seen


@numba.njit(parallel=True, nogil=True, cache=True)
def depth_keys(splats):
    """Numbers that sort splats by depth, those of one float32 depth by row; uint64, the row in the low half."""
    keys = np.empty(len(splats), np.uint64)
    for i in numba.prange(len(splats)):
        bits = np.float32(splats[i, DEPTH]).view(np.uint32)  # positive floats sort as their bits do
        keys[i] = (np.uint64(bits) << np.uint64(32)) | np.uint64(i)
    return keys


@numba.njit(parallel=True, nogil=True, cache=True)
def take_rows(rows, order):
    """``rows[order]`` for a table of float64, shape ``(M, COLUMNS)``."""
    taken = np.empty((len(order), rows.shape[1]))
    for i in numba.prange(len(order)):
        taken[i] = rows[order[i]]
    return taken


@numba.njit(cache=True, inline="always")
def _reach(radius, slope):
    """Bound on how far the image of a ball of some radius [pixels], seen at a slope, reaches at an opacity of 1."""
    return math.sqrt(_WIDEST_CUT * (radius * radius * (1 + slope * slope) + BLUR))


@numba.njit(cache=True, inline="always")
def _project_one(mean, quat, scale, opacity, world_to_camera, stretch, intrinsics, width, height, near, far, splat):
    w2c = world_to_camera
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    mx, my, mz = np.float64(mean[0]), np.float64(mean[1]), np.float64(mean[2])
    x = w2c[0, 0] * mx + w2c[0, 1] * my + w2c[0, 2] * mz + w2c[0, 3]
    y = w2c[1, 0] * mx + w2c[1, 1] * my + w2c[1, 2] * mz + w2c[1, 3]
    z = w2c[2, 0] * mx + w2c[2, 1] * my + w2c[2, 2] * mz + w2c[2, 3]
    if z < near or z > far or opacity <= MIN_ALPHA:
        return False

    # The projection is taken to be linear around a point held near the picture.
    tx = min(max(x / z, -cx / fx - GUARD * width / fx), (width - cx) / fx + GUARD * width / fx)
    ty = min(max(y / z, -cy / fy - GUARD * height / fy), (height - cy) / fy + GUARD * height / fy)
    # No ellipse reaches farther from its centre than a ball of the largest axis would; most of a room ends here.
    ball = stretch * max(np.float64(scale[0]), np.float64(scale[1]), np.float64(scale[2])) / z
    u, v = fx * x / z + cx, fy * y / z + cy
    reach_x, reach_y = _reach(fx * ball, tx), _reach(fy * ball, ty)
    if u + reach_x < 0 or u - reach_x > width or v + reach_y < 0 or v - reach_y > height:
        return False

    # Rows of the Jacobian of the projection times the camera's rotation.
    ax = fx / z * (w2c[0, 0] - tx * w2c[2, 0])
    ay = fx / z * (w2c[0, 1] - tx * w2c[2, 1])
    az = fx / z * (w2c[0, 2] - tx * w2c[2, 2])
    bx = fy / z * (w2c[1, 0] - ty * w2c[2, 0])
    by = fy / z * (w2c[1, 1] - ty * w2c[2, 1])
    bz = fy / z * (w2c[1, 2] - ty * w2c[2, 2])

    # Images (a, b) of the three scaled axes of the Gaussian.
    qw, qx, qy, qz = np.float64(quat[0]), np.float64(quat[1]), np.float64(quat[2]), np.float64(quat[3])
    s = 2 / (qw * qw + qx * qx + qy * qy + qz * qz)
    s0, s1, s2 = np.float64(scale[0]), np.float64(scale[1]), np.float64(scale[2])
    r00, r10, r20 = 1 - s * (qy * qy + qz * qz), s * (qx * qy + qw * qz), s * (qx * qz - qw * qy)
    r01, r11, r21 = s * (qx * qy - qw * qz), 1 - s * (qx * qx + qz * qz), s * (qy * qz + qw * qx)
    r02, r12, r22 = s * (qx * qz + qw * qy), s * (qy * qz - qw * qx), 1 - s * (qx * qx + qy * qy)
    a0, b0 = s0 * (ax * r00 + ay * r10 + az * r20), s0 * (bx * r00 + by * r10 + bz * r20)
    a1, b1 = s1 * (ax * r01 + ay * r11 + az * r21), s1 * (bx * r01 + by * r11 + bz * r21)
    a2, b2 = s2 * (ax * r02 + ay * r12 + az * r22), s2 * (bx * r02 + by * r12 + bz * r22)
    var_x = a0 * a0 + a1 * a1 + a2 * a2 + BLUR
    var_y = b0 * b0 + b1 * b1 + b2 * b2 + BLUR
    cov = a0 * b0 + a1 * b1 + a2 * b2
    # Cauchy-Binet: the determinant as a sum of squares.
    c0, c1, c2 = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
    determinant = c0 * c0 + c1 * c1 + c2 * c2 + BLUR * (var_x + var_y - BLUR)

    cut = 2 * math.log(opacity / MIN_ALPHA)  # squared Mahalanobis radius at which alpha falls to MIN_ALPHA
    half_width, half_height = math.sqrt(cut * var_x), math.sqrt(cut * var_y)
    if u + half_width < 0 or u - half_width > width or v + half_height < 0 or v - half_height > height:
        return False
    splat[U], splat[V] = u, v
    splat[VAR_Y], splat[SHEAR], splat[VAR_ROW] = var_y, cov / var_y, determinant / var_y
    splat[RIGHTMOST_DY] = cov * math.sqrt(cut / var_x)
    splat[CUT], splat[DEPTH] = cut, z
    return True


@numba.njit(cache=True, inline="always")
def _tile_range(low, high, tiles):
    """First and one past the last of ``tiles`` tiles that the interval ``low .. high`` [pixels] touches."""
    first = int(min(max(low / TILE, 0.0), tiles))
    return first, int(min(max(high / TILE + 1, 0.0), tiles))


@numba.njit(cache=True, inline="always")
def _tile_rows(splat, tiles_y):
    """Tile rows that the splat's ellipse touches: first and one past the last."""
    half_height = math.sqrt(splat[CUT] * splat[VAR_Y])
    return _tile_range(splat[V] - half_height, splat[V] + half_height, tiles_y)


@numba.njit(cache=True, inline="always")
def _tiles_in_row(splat, row, tiles_x):
    """Tiles of tile row ``row`` that the splat's ellipse touches: first and one past the last."""
    low = row * TILE - splat[V]
    half_height = math.sqrt(splat[CUT] * splat[VAR_Y])
    low, high = max(low, -half_height), min(low + TILE, half_height)
    right_dy = min(max(splat[RIGHTMOST_DY], low), high)
    left_dy = min(max(-splat[RIGHTMOST_DY], low), high)
    right_half = math.sqrt(max(0.0, splat[VAR_ROW] * (splat[CUT] - right_dy * right_dy / splat[VAR_Y])))
    left_half = math.sqrt(max(0.0, splat[VAR_ROW] * (splat[CUT] - left_dy * left_dy / splat[VAR_Y])))
    return _tile_range(
        splat[U] + splat[SHEAR] * left_dy - left_half, splat[U] + splat[SHEAR] * right_dy + right_half, tiles_x
    )


@numba.njit(parallel=True, nogil=True, cache=True)
def count_per_tile(splats, tiles_x, tiles_y):
    """How many splats of each part of the table touch each tile, int64, shape ``(parts, tiles_y * tiles_x)``."""
    counts = np.zeros((_PARTS, tiles_y * tiles_x), np.int64)
    for part in numba.prange(_PARTS):
        for i in range(part * len(splats) // _PARTS, (part + 1) * len(splats) // _PARTS):
            top, bottom = _tile_rows(splats[i], tiles_y)
            for row in range(top, bottom):
                left, right = _tiles_in_row(splats[i], row, tiles_x)
                for tile in range(row * tiles_x + left, row * tiles_x + right):
                    counts[part, tile] += 1
    return counts


@numba.njit(parallel=True, nogil=True, cache=True)
def list_per_tile(splats, tiles_x, tiles_y, first, starts, size):
    """Indices of the splats that touch each tile of a run, in the order of the table.

    Args:
        splats: The table that was counted.
        tiles_x, tiles_y: Tiles across and down the picture.
        first: The first tile of the run.
        starts: Where the list of each tile begins for each part, shape ``(parts, tiles in the run)``.
        size: Length of all lists together.

    Returns:
        int32, shape ``(size,)``.
    """
    lists = np.empty(size, np.int32)
    last = first + starts.shape[1]
    for part in numba.prange(_PARTS):
        cursors = starts[part].copy()
        for i in range(part * len(splats) // _PARTS, (part + 1) * len(splats) // _PARTS):
            top, bottom = _tile_rows(splats[i], tiles_y)
            for row in range(max(top, first // tiles_x), min(bottom, (last - 1) // tiles_x + 1)):
                left, right = _tiles_in_row(splats[i], row, tiles_x)
                for tile in range(max(row * tiles_x + left, first), min(row * tiles_x + right, last)):
                    lists[cursors[tile - first]] = i
                    cursors[tile - first] += 1
    return lists


@numba.njit(cache=True, inline="always", fastmath=_FAST)
def _exp(x):
    """``exp`` of a float32 in [-80, 0] to 5e-7, in operations that the compiler can do on many numbers at once."""
    power = np.int32(x * _LOG2_E - _HALF)
    f = x - np.float32(power) * _LN_2
    t = _TAYLOR
    series = t[0] + f * (t[1] + f * (t[2] + f * (t[3] + f * (t[4] + f * (t[5] + f * t[6])))))
    return series * np.int32((power + np.int32(127)) << np.int32(23)).view(np.float32)


@numba.njit(cache=True, inline="always", fastmath=_FAST)
def _blend_row(state, surface, index, centre, peak, precision, opacity, red, green, blue, depth):
    """Blend one splat behind what one row of a tile holds already; ``precision`` is 1 / variance."""
    for x in range(TILE):
        dx = np.float32(x) + _HALF - centre
        exponent = max(peak - _HALF * precision * dx * dx, np.float32(-20))
        alpha = min(_MAX_ALPHA, opacity * _exp(exponent))
        alpha = alpha if alpha >= _MIN_ALPHA and depth < state[_STOP + x] else _ZERO
        before = state[_TRANSMITTANCE + x]
        after = before * (_ONE - alpha)
        live = state[_LIVE + x] if after > _MIN_TRANSMITTANCE else _ZERO
        weight = alpha * before * live
        state[_LIVE + x] = live
        state[_TRANSMITTANCE + x] = before - weight
        surface[x] = index if before > _HALF and after <= _HALF else surface[x]
        state[_RED + x] += weight * red
        state[_GREEN + x] += weight * green
        state[_BLUE + x] += weight * blue
        state[_DEPTH + x] += weight * depth


@numba.njit(parallel=True, nogil=True, cache=True, fastmath=_FAST)
def composite(splats, paint, tiles_x, first, starts, lists, background, stop, color, depth, alpha, surface):
    """Fill the pixels of a run of tiles.

    Args:
        splats: Projected Gaussians, nearest first, shape ``(M, COLUMNS)``.
        paint: Red, green, blue and opacity of each, float32, shape ``(M, 4)``.
        tiles_x: Tiles across the picture.
        first: The first tile of the run.
        starts: Where the list of each tile begins, and the end, shape ``(tiles in the run + 1,)``.
        lists: Indices into ``splats``.
        background: RGB behind the splats, float32, shape ``(H, W, 3)``.
        stop: Depth from which on splats are hidden [m], float32, shape ``(H, W)``.
        color, depth, alpha: Where to write, float32, shapes ``(H, W, 3)`` and ``(H, W)``.
        surface: Where to write which splat takes a ray past half its coverage, -1 where none does, int32, ``(H, W)``.
    """
    height, width = alpha.shape
    for tile in numba.prange(len(starts) - 1):
        left, top = (first + tile) % tiles_x * TILE, (first + tile) // tiles_x * TILE
        columns, rows = min(TILE, width - left), min(TILE, height - top)
        state = np.zeros((TILE, 7 * TILE), np.float32)
        state[:, _TRANSMITTANCE : _TRANSMITTANCE + TILE] = _ONE
        state[:rows, _LIVE : _LIVE + columns] = _ONE
        state[:rows, _STOP : _STOP + columns] = stop[top : top + rows, left : left + columns]
        farthest = stop[top : top + rows, left : left + columns].max()
        nearest = np.full((TILE, TILE), -1, np.int32)

        for k in range(starts[tile], starts[tile + 1]):
            i = lists[k]
            if splats[i, DEPTH] >= farthest:
                break
            u, v = splats[i, U] - left, splats[i, V] - top
            var_y, shear, cut = splats[i, VAR_Y], splats[i, SHEAR], splats[i, CUT]
            precision = 1 / splats[i, VAR_ROW]
            half_height = math.sqrt(cut * var_y)
            begin = math.ceil(min(max(v - half_height - 0.5, 0.0), rows))
            end = math.floor(max(min(v + half_height - 0.5, rows - 1.0), -1.0)) + 1
            for y in range(begin, end):
                dy = y + 0.5 - v
                centre, peak = u + shear * dy, -0.5 * dy * dy / var_y
                outside = max(0.5 - centre, centre - TILE + 0.5, 0.0)
                if 2 * peak - precision * outside * outside < -cut:
                    continue
                _blend_row(
                    state[y],
                    nearest[y],
                    i,
                    np.float32(centre),
                    np.float32(peak),
                    np.float32(precision),
                    paint[i, 3],
                    paint[i, 0],
                    paint[i, 1],
                    paint[i, 2],
                    np.float32(splats[i, DEPTH]),
                )
            if k % 32 == 31 and not state[:, _LIVE : _LIVE + TILE].any():
                break

        for y in range(rows):
            for x in range(columns):
                remaining = state[y, _TRANSMITTANCE + x]
                covered = _ONE - remaining
                pixel = color[top + y, left + x]
                behind = background[top + y, left + x]
                pixel[0] = state[y, _RED + x] + remaining * behind[0]
                pixel[1] = state[y, _GREEN + x] + remaining * behind[1]
                pixel[2] = state[y, _BLUE + x] + remaining * behind[2]
                alpha[top + y, left + x] = covered
                depth[top + y, left + x] = state[y, _DEPTH + x] / covered if covered > _ZERO else _ZERO
                surface[top + y, left + x] = nearest[y, x]
