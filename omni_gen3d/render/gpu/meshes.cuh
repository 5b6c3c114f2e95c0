// Triangle meshes in many pictures at once: a z-buffer, and light on what is seen; the arithmetic of render/meshes.py.
#pragma once
#include "textures.cuh"

constexpr float LABEL_TOLERANCE = 0.15f;  // as _LABEL_TOLERANCE_M of render/aovs.py
constexpr int LANES = 32;                 // threads that share a face
constexpr int FACES = 4;                  // faces of a block
constexpr int BAND = 64;                  // rows of the picture that a block fills

// Affine maps are the upper three rows of a matrix.
__device__ inline void compose(const double* outer, const double* inner, double* product) {
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 4; ++j)
            product[4 * i + j] = outer[4 * i] * inner[j] + outer[4 * i + 1] * inner[4 + j] +
                                 outer[4 * i + 2] * inner[8 + j] + (j == 3 ? outer[4 * i + 3] : 0);
}

__device__ inline void apply(const double* map, const double* point, double* moved) {
    for (int i = 0; i < 3; ++i)
        moved[i] = map[4 * i] * point[0] + map[4 * i + 1] * point[1] + map[4 * i + 2] * point[2] + map[4 * i + 3];
}

// Of the linear part of an affine map.
__device__ inline void invert(const double* m, double* inverse) {
    const double c0 = m[5] * m[10] - m[6] * m[9], c1 = m[6] * m[8] - m[4] * m[10], c2 = m[4] * m[9] - m[5] * m[8];
    const double scale = 1 / (m[0] * c0 + m[1] * c1 + m[2] * c2);
    inverse[0] = c0 * scale, inverse[3] = c1 * scale, inverse[6] = c2 * scale;
    inverse[1] = (m[2] * m[9] - m[1] * m[10]) * scale, inverse[4] = (m[0] * m[10] - m[2] * m[8]) * scale;
    inverse[7] = (m[1] * m[8] - m[0] * m[9]) * scale;
    inverse[2] = (m[1] * m[6] - m[2] * m[5]) * scale, inverse[5] = (m[2] * m[4] - m[0] * m[6]) * scale;
    inverse[8] = (m[0] * m[5] - m[1] * m[4]) * scale;
}

__device__ inline void cross(const double* p, const double* q, double* product) {
    product[0] = p[1] * q[2] - p[2] * q[1];
    product[1] = p[2] * q[0] - p[0] * q[2];
    product[2] = p[0] * q[1] - p[1] * q[0];
}

// What a pixel shows.
struct Hit {
    float depth, median, normal[3];
    int prim, instance, semantic;
    const double *to_world, *earlier;
};

__device__ inline void to_world_direction(const Camera& camera, const float* direction, float* turned) {
    const double* m = camera.to_camera;
    for (int k = 0; k < 3; ++k)
        turned[k] = (float)(m[k] * direction[0] + m[4 + k] * direction[1] + m[8 + k] * direction[2]);
}

// Three planes through the camera and an edge (Olano and Greer 1997): rows 0-2, their sum in row 3; then the offset. Their
// values along the ray of a pixel are the perspective-correct weights of the corners, the offset over their sum its depth.
struct Planes {
    float edges[9], sum[3], offset;
};

// False where the face is behind the near plane or seen edge-on; `corners` are its points in the camera.
__device__ inline bool set_up(const Meshes& meshes, int face, const Camera& camera, double corners[9], Planes& planes) {
    double m[12], p[9], sum[3];
    compose(camera.to_camera, meshes.instances[meshes.owners[face]].to_world, m);
    for (int k = 0; k < 3; ++k) {
        const float* point = meshes.points + 3 * (long long)meshes.faces[3 * face + k];
        const double local[3] = {point[0], point[1], point[2]};
        apply(m, local, corners + 3 * k);
    }
    if (corners[2] < camera.near && corners[5] < camera.near && corners[8] < camera.near) return false;
    cross(corners + 3, corners + 6, p);
    cross(corners + 6, corners, p + 3);
    cross(corners, corners + 3, p + 6);
    double offset = corners[0] * p[0] + corners[1] * p[1] + corners[2] * p[2];
    const double sign = offset < 0 ? -1 : 1;
    for (int k = 0; k < 3; ++k) sum[k] = sign * (p[k] + p[3 + k] + p[6 + k]);
    for (int k = 0; k < 9; ++k) planes.edges[k] = (float)(sign * p[k]);
    for (int k = 0; k < 3; ++k) planes.sum[k] = (float)sum[k];
    planes.offset = (float)(sign * offset);
    return planes.offset > 0;
}

__device__ inline void weights(const Planes& planes, float x, float y, float w[3]) {
    for (int k = 0; k < 3; ++k) w[k] = planes.edges[3 * k] * x + planes.edges[3 * k + 1] * y + planes.edges[3 * k + 2];
}

// Blocks (faces, camera, band of rows), LANES threads a face: the nearest face of every pixel.
__global__ void rasterize(Call call, bool of_labels) {
    const int camera = blockIdx.y, lane = threadIdx.x % LANES;
    const World& world = call.worlds[call.camera_worlds[camera]];
    const Meshes& meshes = of_labels ? world.labels : world.solid;
    u64* buffer = (of_labels ? call.labels : call.solid) + (long long)camera * call.height * call.width;
    const int face = blockIdx.x * FACES + threadIdx.x / LANES;
    if (face >= meshes.num_faces) return;
    const Camera lens = call.cameras[camera];
    double c[9];
    Planes planes;
    if (!set_up(meshes, face, lens, c, planes)) return;
    const float fx = lens.fx, fy = lens.fy, cx = lens.cx, cy = lens.cy, near = lens.near, far = lens.far;
    int top = blockIdx.z * BAND, bottom = top + BAND < call.height ? top + BAND : call.height;
    int left = 0, right = call.width;
    if (c[2] >= 1e-6 && c[5] >= 1e-6 && c[8] >= 1e-6) {
        float low_u = INFINITY, high_u = -INFINITY, low_v = INFINITY, high_v = -INFINITY;
        for (int k = 0; k < 9; k += 3) {
            const float u = (float)(lens.fx * c[k] / c[k + 2] + lens.cx), v = (float)(lens.fy * c[k + 1] / c[k + 2] + lens.cy);
            low_u = fminf(low_u, u), high_u = fmaxf(high_u, u), low_v = fminf(low_v, v), high_v = fmaxf(high_v, v);
        }
        left = (int)fminf(fmaxf(low_u - 0.5f, 0.0f), (float)call.width);
        right = (int)fminf(fmaxf(high_u + 1.5f, 0.0f), (float)call.width);
        const int first = (int)fminf(fmaxf(low_v - 0.5f, 0.0f), (float)call.height);
        const int last = (int)fminf(fmaxf(high_v + 1.5f, 0.0f), (float)call.height);
        top = first > top ? first : top, bottom = last < bottom ? last : bottom;
    }
    const int columns = right - left;
    if (columns <= 0) return;
    for (int i = lane; i < columns * (bottom - top); i += LANES) {
        const int row = top + i / columns, column = left + i % columns;
        const float x = (column + 0.5f - cx) / fx, y = (row + 0.5f - cy) / fy;
        float w[3];
        weights(planes, x, y, w);
        const float total = planes.sum[0] * x + planes.sum[1] * y + planes.sum[2];
        if (!(w[0] >= 0 && w[1] >= 0 && w[2] >= 0 && total > 0)) continue;
        const float z = planes.offset / total;
        if (z >= near && z <= far)
            atomicMin(buffer + (long long)row * call.width + column, ((u64)__float_as_uint(z) << 32) | (unsigned)face);
    }
}

// The texture of a face along a ray, in the copy whose texels are as far apart as the pixels are there.
__device__ inline void look_up(const Meshes& meshes, int face, const Planes& planes, const Camera& camera, float x, float y,
                               float color[3]) {
    const Texture& texture = meshes.textures[meshes.pictures[face]];
    const float right = 1 / (float)camera.fx, below = 1 / (float)camera.fy;
    float places[3][2], step = 0;
    for (int i = 0; i < 3; ++i) {
        float w[3];
        weights(planes, x + (i == 1 ? right : 0), y + (i == 2 ? below : 0), w);
        const float total = w[0] + w[1] + w[2];
        for (int k = 0; k < 2; ++k) {
            const float* corners = meshes.coordinates + 6 * (long long)face + k;
            places[i][k] = (w[0] * corners[0] + w[1] * corners[2] + w[2] * corners[4]) / total;
        }
    }
    for (int i = 1; i < 3; ++i) {
        const float ds = (places[i][0] - places[0][0]) * texture.width, dt = (places[i][1] - places[0][1]) * texture.height;
        step = fmaxf(step, sqrtf(ds * ds + dt * dt));
    }
    sample(texture, meshes.texels, places[0][0], places[0][1], step, color);
}

// Lambert's law on the interpolated normal, turned to the camera; `lit` gets the colour.
__device__ inline Hit shade(const Meshes& meshes, const World& world, const Camera& camera, int face, float depth, float x,
                            float y, float lit[3]) {
    double corners[9], turn[9];
    Planes planes;
    set_up(meshes, face, camera, corners, planes);
    float w[3], local[3] = {0, 0, 0}, base[3] = {0, 0, 0};
    weights(planes, x, y, w);
    const float total = w[0] + w[1] + w[2];
    for (int corner = 0; corner < 3; ++corner)
        for (int k = 0; k < 3; ++k) {
            local[k] += w[corner] / total * meshes.normals[9 * (long long)face + 3 * corner + k];
            base[k] += w[corner] / total * meshes.colors[9 * (long long)face + 3 * corner + k];
        }
    if (meshes.pictures[face] >= 0) {
        float paint[3];
        look_up(meshes, face, planes, camera, x, y, paint);
        for (int k = 0; k < 3; ++k) base[k] *= paint[k];
    }
    const MeshInstance& mesh = meshes.instances[meshes.owners[face]];
    invert(mesh.to_world, turn);
    Hit hit = {};
    const float ray_in_camera[3] = {x, y, 1};
    float ray[3], length = 0, facing = 0;
    to_world_direction(camera, ray_in_camera, ray);
    for (int k = 0; k < 3; ++k) {
        // Normals turn with the inverse transpose.
        hit.normal[k] = (float)(turn[k] * local[0] + turn[3 + k] * local[1] + turn[6 + k] * local[2]);
        length += hit.normal[k] * hit.normal[k];
        facing -= hit.normal[k] * ray[k];
    }
    const float scale = (facing >= 0 ? 1 : -1) / fmaxf(sqrtf(length), 1e-30f);
    for (int k = 0; k < 3; ++k) hit.normal[k] *= scale;
    facing = fabsf(facing * scale) / sqrtf(x * x + y * y + 1);
    for (int k = 0; k < 3; ++k) {
        float light = world.ambient[k] + world.head * facing;
        for (int i = 0; i < world.num_lights; ++i) {
            const float* toward = world.lights[i].toward;
            const float cosine = hit.normal[0] * toward[0] + hit.normal[1] * toward[1] + hit.normal[2] * toward[2];
            light += world.lights[i].color[k] * fmaxf(cosine, 0.0f);
        }
        lit[k] = fminf(base[k] * light, 1.0f);
    }
    hit.depth = depth, hit.prim = mesh.prim, hit.instance = mesh.instance, hit.semantic = mesh.semantic;
    hit.to_world = mesh.to_world, hit.earlier = mesh.earlier;
    return hit;
}

// How far the point at a pixel has come since the earlier camera saw it [pixels]; 0 where nothing is or was in view.
__device__ inline void motion(const Camera& camera, const Camera* earlier, const Hit& hit, float x, float y, int column,
                              int row, float moved[2]) {
    moved[0] = moved[1] = 0;
    if (!hit.to_world || !earlier) return;
    double m[12], inverse[9], away[3], local[3], world[3], seen[3];
    compose(camera.to_camera, hit.to_world, m);
    invert(m, inverse);
    const double point[3] = {x * hit.depth - m[3], y * hit.depth - m[7], hit.depth - m[11]};
    for (int k = 0; k < 3; ++k) away[k] = point[k];
    for (int k = 0; k < 3; ++k)
        local[k] = inverse[3 * k] * away[0] + inverse[3 * k + 1] * away[1] + inverse[3 * k + 2] * away[2];
    apply(hit.earlier, local, world);
    apply(earlier->to_camera, world, seen);
    if (seen[2] < earlier->near) return;
    moved[0] = (float)(column + 0.5 - (earlier->fx * seen[0] / seen[2] + earlier->cx));
    moved[1] = (float)(row + 0.5 - (earlier->fy * seen[1] / seen[2] + earlier->cy));
}
