// From a Gaussian to the profile that a row of pixels sees, and its colour: the arithmetic of render/kernels.py and
// render/harmonics.py in single precision.
#pragma once
#include "tables.cuh"

constexpr float BLUR = 0.3f, MIN_ALPHA = 1.0f / 255, MAX_ALPHA = 0.999f, GUARD = 0.15f;
constexpr float WIDEST_CUT = 11.0825f;  // 2 ln 255

struct Gaussian {
    float mean[3], quat[4], scale[3], opacity;
};

struct Splat {
    float u, v, var_y, shear, var_row, rightmost_dy, cut, depth;
};

__device__ inline float bits_to_float(unsigned bits) { return __uint_as_float(bits); }

__device__ inline float low_half(unsigned word) { return half_to_float((half_bits)(word & 0xffff)); }
__device__ inline float high_half(unsigned word) { return half_to_float((half_bits)(word >> 16)); }

__device__ inline Gaussian read_gaussian(const uint4* shapes, int index) {
    const uint4 a = shapes[2 * index], b = shapes[2 * index + 1];
    Gaussian g;
    g.mean[0] = bits_to_float(a.x), g.mean[1] = bits_to_float(a.y), g.mean[2] = bits_to_float(a.z);
    g.opacity = low_half(a.w);
    g.quat[0] = low_half(b.x), g.quat[1] = high_half(b.x), g.quat[2] = low_half(b.y), g.quat[3] = high_half(b.y);
    g.scale[0] = low_half(b.z), g.scale[1] = high_half(b.z), g.scale[2] = low_half(b.w);
    return g;
}

// Columns are the axes of a Gaussian.
__device__ inline void rotation(const float* q, float r[9]) {
    const float w = q[0], x = q[1], y = q[2], z = q[3];
    const float s = 2 / (w * w + x * x + y * y + z * z);
    r[0] = 1 - s * (y * y + z * z), r[3] = s * (x * y + w * z), r[6] = s * (x * z - w * y);
    r[1] = s * (x * y - w * z), r[4] = 1 - s * (x * x + z * z), r[7] = s * (y * z + w * x);
    r[2] = s * (x * z + w * y), r[5] = s * (y * z - w * x), r[8] = 1 - s * (x * x + y * y);
}

// EWA splatting (Zwicker et al. 2001); false where the camera does not see it.
__device__ inline bool project(const Gaussian& g, const float* m, const Camera& camera, float width, float height,
                               Splat& splat) {
    const float fx = camera.fx, fy = camera.fy, cx = camera.cx, cy = camera.cy;
    const float x = m[0] * g.mean[0] + m[1] * g.mean[1] + m[2] * g.mean[2] + m[3];
    const float y = m[4] * g.mean[0] + m[5] * g.mean[1] + m[6] * g.mean[2] + m[7];
    const float z = m[8] * g.mean[0] + m[9] * g.mean[1] + m[10] * g.mean[2] + m[11];
    if (!(z >= (float)camera.near && z <= (float)camera.far) || g.opacity <= MIN_ALPHA) return false;
    const float inverse = 1 / z;
    const float u = fx * x * inverse + cx, v = fy * y * inverse + cy;
    const float tx = fminf(fmaxf(x * inverse, (-cx - GUARD * width) / fx), ((1 + GUARD) * width - cx) / fx);
    const float ty = fminf(fmaxf(y * inverse, (-cy - GUARD * height) / fy), ((1 + GUARD) * height - cy) / fy);
    const float px = fx * inverse, py = fy * inverse;
    const float ax = px * (m[0] - tx * m[8]), ay = px * (m[1] - tx * m[9]), az = px * (m[2] - tx * m[10]);
    const float bx = py * (m[4] - ty * m[8]), by = py * (m[5] - ty * m[9]), bz = py * (m[6] - ty * m[10]);
    float r[9];
    rotation(g.quat, r);
    const float a0 = g.scale[0] * (ax * r[0] + ay * r[3] + az * r[6]);
    const float b0 = g.scale[0] * (bx * r[0] + by * r[3] + bz * r[6]);
    const float a1 = g.scale[1] * (ax * r[1] + ay * r[4] + az * r[7]);
    const float b1 = g.scale[1] * (bx * r[1] + by * r[4] + bz * r[7]);
    const float a2 = g.scale[2] * (ax * r[2] + ay * r[5] + az * r[8]);
    const float b2 = g.scale[2] * (bx * r[2] + by * r[5] + bz * r[8]);
    const float var_x = a0 * a0 + a1 * a1 + a2 * a2 + BLUR, var_y = b0 * b0 + b1 * b1 + b2 * b2 + BLUR;
    const float cov = a0 * b0 + a1 * b1 + a2 * b2;
    // Cauchy-Binet: the determinant as a sum of squares.
    const float c0 = a1 * b2 - a2 * b1, c1 = a2 * b0 - a0 * b2, c2 = a0 * b1 - a1 * b0;
    const float determinant = c0 * c0 + c1 * c1 + c2 * c2 + BLUR * (var_x + var_y - BLUR);
    const float cut = 2 * logf(g.opacity / MIN_ALPHA);
    const float half_width = sqrtf(cut * var_x), half_height = sqrtf(cut * var_y);
    if (u + half_width < 0 || u - half_width > width || v + half_height < 0 || v - half_height > height) return false;
    splat.u = u, splat.v = v, splat.var_y = var_y, splat.shear = cov / var_y, splat.var_row = determinant / var_y;
    splat.rightmost_dy = cov * sqrtf(cut / var_x), splat.cut = cut, splat.depth = z;
    return true;
}

// First and one past the last of `tiles` tiles that an interval touches [pixels].
__device__ inline void tile_range(float low, float high, int tiles, int& first, int& last) {
    first = (int)fminf(fmaxf(low / TILE, 0.0f), (float)tiles);
    last = (int)fminf(fmaxf(high / TILE + 1, 0.0f), (float)tiles);
}

__device__ inline void tile_rows(const Splat& s, int tiles_y, int& first, int& last) {
    const float half_height = sqrtf(s.cut * s.var_y);
    tile_range(s.v - half_height, s.v + half_height, tiles_y, first, last);
}

// Tiles of a row of tiles that the ellipse touches.
__device__ inline void tiles_in_row(const Splat& s, int row, int tiles_x, int& first, int& last) {
    const float half_height = sqrtf(s.cut * s.var_y);
    const float low = fmaxf(row * TILE - s.v, -half_height), high = fminf((row + 1) * TILE - s.v, half_height);
    const float right_dy = fminf(fmaxf(s.rightmost_dy, low), high);
    const float left_dy = fminf(fmaxf(-s.rightmost_dy, low), high);
    const float right = sqrtf(fmaxf(0.0f, s.var_row * (s.cut - right_dy * right_dy / s.var_y)));
    const float left = sqrtf(fmaxf(0.0f, s.var_row * (s.cut - left_dy * left_dy / s.var_y)));
    tile_range(s.u + s.shear * left_dy - left, s.u + s.shear * right_dy + right, tiles_x, first, last);
}

// Colour along a direction of any length: 0.5 plus the harmonics, not below 0.
__device__ inline void paint(const half_bits* sh, int count, float dx, float dy, float dz, float color[3]) {
    float basis[16];
    basis[0] = 0.28209479177387814f;
    if (count > 1) {
        const float scale = 1 / fmaxf(sqrtf(dx * dx + dy * dy + dz * dz), 1e-12f);
        const float x = dx * scale, y = dy * scale, z = dz * scale, xx = x * x, yy = y * y, zz = z * z;
        basis[1] = -0.4886025119029199f * y, basis[2] = 0.4886025119029199f * z, basis[3] = -0.4886025119029199f * x;
        basis[4] = 1.0925484305920792f * x * y, basis[5] = -1.0925484305920792f * y * z;
        basis[6] = 0.31539156525252005f * (2 * zz - xx - yy);
        basis[7] = -1.0925484305920792f * x * z, basis[8] = 0.5462742152960396f * (xx - yy);
        basis[9] = -0.5900435899266435f * y * (3 * xx - yy), basis[15] = -0.5900435899266435f * x * (xx - 3 * yy);
        basis[10] = 2.890611442640554f * x * y * z, basis[14] = 1.445305721320277f * z * (xx - yy);
        basis[11] = -0.4570457994644658f * y * (4 * zz - xx - yy);
        basis[13] = -0.4570457994644658f * x * (4 * zz - xx - yy);
        basis[12] = 0.3731763325901154f * z * (2 * zz - 3 * xx - 3 * yy);
    }
    for (int channel = 0; channel < 3; ++channel) color[channel] = 0.5f;
#pragma unroll
    for (int k = 0; k < 16; ++k)
        if (k < count)
            for (int channel = 0; channel < 3; ++channel)
                color[channel] += basis[k] * half_to_float(sh[3 * k + channel]);
    for (int channel = 0; channel < 3; ++channel) color[channel] = fmaxf(color[channel], 0.0f);
}

// Where a ray (x, y, 1) of the camera meets the peak of a Gaussian (Moenne-Loccoz et al. 2024, eq. 10), and which way
// its shortest axis points in the camera, towards it.
__device__ inline float meet(const Gaussian& g, const Placed& placed, float x, float y, float normal[3]) {
    float r[9], ray[3], along = 0, square = 0;
    rotation(g.quat, r);
    const float* inverse = placed.to_local;
    for (int k = 0; k < 3; ++k) ray[k] = inverse[3 * k] * x + inverse[3 * k + 1] * y + inverse[3 * k + 2];
    int shortest = 0;
    for (int k = 0; k < 3; ++k) {
        const float size = fmaxf(g.scale[k], 1e-7f);
        float a = 0, b = 0;
        for (int j = 0; j < 3; ++j) a += r[3 * j + k] * (placed.eye[j] - g.mean[j]), b += r[3 * j + k] * ray[j];
        a /= size, b /= size;
        along -= a * b, square += b * b;
        if (g.scale[k] < g.scale[shortest]) shortest = k;
    }
    const float n[3] = {r[shortest], r[3 + shortest], r[6 + shortest]};
    float length = 0;
    for (int k = 0; k < 3; ++k) {
        normal[k] = inverse[k] * n[0] + inverse[3 + k] * n[1] + inverse[6 + k] * n[2];
        length += normal[k] * normal[k];
    }
    const float facing = normal[0] * x + normal[1] * y + normal[2];
    const float scale = (facing > 0 ? -1 : 1) / sqrtf(length);
    for (int k = 0; k < 3; ++k) normal[k] *= scale;
    return along / square;
}
