// The colour at a place of a texture: the arithmetic of render/textures.py in single precision.
#pragma once
#include "tables.cuh"

// The texel at a place along one axis, -1 for none.
__device__ inline int wrapped(int at, int side, int wrap) {
    if (wrap == 0) return (at % side + side) % side;
    if (wrap == 1) return at < 0 ? 0 : at < side ? at : side - 1;
    if (wrap == 2) {
        const int turned = (at % (2 * side) + 2 * side) % (2 * side);
        return turned < side ? turned : 2 * side - 1 - turned;
    }
    return at >= 0 && at < side ? at : -1;
}

// Where the next pixel lies `step` texels away.
__device__ inline void sample(const Texture& texture, const unsigned char* texels, float s, float t, float step,
                              float color[3]) {
    const int finest = (int)(log2f(fmaxf(step, 1.0f)) + 0.5f);
    const int level = finest < texture.levels ? finest : texture.levels - 1;
    long long at = texture.first;
    int width = texture.width, height = texture.height;
    for (int i = 0; i < level; ++i) {
        at += (long long)width * height;
        width = width > 1 ? width / 2 : 1, height = height > 1 ? height / 2 : 1;
    }
    const float x = fminf(fmaxf(s, -1e4f), 1e4f) * width - 0.5f;
    const float y = (1 - fminf(fmaxf(t, -1e4f), 1e4f)) * height - 0.5f;
    const float left = floorf(x), top = floorf(y), across = x - left, down = y - top;
    for (int k = 0; k < 3; ++k) color[k] = 0;
    for (int corner = 0; corner < 4; ++corner) {
        const int row = corner / 2, column = corner % 2;
        const int line = wrapped((int)top + row, height, texture.wrap_t);
        const int place = wrapped((int)left + column, width, texture.wrap_s);
        if (line < 0 || place < 0) continue;
        const float share = (row ? down : 1 - down) * (column ? across : 1 - across);
        const unsigned char* texel = texels + 4 * (at + (long long)line * width + place);
        for (int k = 0; k < 3; ++k) color[k] += share * texel[k] / 255;
    }
}
