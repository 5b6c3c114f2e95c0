// Rays against instances of triangle meshes: every model has a tree of boxes over its faces, every picture a list of
// placed models. One thread a ray. Without ON_HOST this is CUDA; a C++ compiler makes plain loops of the same functions.
#ifdef ON_HOST
#include <cmath>
#define __device__
using std::fabs;
using std::fmaxf;
using std::fminf;
#endif

namespace {

constexpr int STACK = 32;  // more than the levels of any tree that fits in memory
constexpr int LEAF = 4;    // faces of a leaf, as in object_caster.py

struct Models {
    const float* corners;   // (F, 9), faces in the order of the leaves
    const float* boxes;     // (B, 6): low, high; of each model a complete binary tree, level by level
    const int* first_box;   // (M + 1,)
    const int* first_face;  // (M + 1,)
};

struct Placed {
    const int* model;         // (S, K), -1 for none
    const float* to_local;    // (S, K, 12): the upper rows of world-to-model
    int per_picture;          // K
};

struct Hit {
    float t, u, v;
    int instance, face;
};

__device__ inline bool meets(const float* box, const float* o, const float* inverse, float nearest) {
    float enter = 0, leave = nearest;
    for (int k = 0; k < 3; ++k) {
        const float a = (box[k] - o[k]) * inverse[k], b = (box[3 + k] - o[k]) * inverse[k];
        enter = fmaxf(enter, fminf(a, b)), leave = fminf(leave, fmaxf(a, b));
    }
    return enter <= leave;
}

// Moeller and Trumbore 1997, both sides.
__device__ inline bool meets_face(const float* c, const float* o, const float* d, float nearest, float& t, float& u, float& v) {
    const float e[3] = {c[3] - c[0], c[4] - c[1], c[5] - c[2]}, f[3] = {c[6] - c[0], c[7] - c[1], c[8] - c[2]};
    const float p[3] = {d[1] * f[2] - d[2] * f[1], d[2] * f[0] - d[0] * f[2], d[0] * f[1] - d[1] * f[0]};
    const float determinant = e[0] * p[0] + e[1] * p[1] + e[2] * p[2];
    if (determinant == 0) return false;
    const float scale = 1 / determinant, s[3] = {o[0] - c[0], o[1] - c[1], o[2] - c[2]};
    u = (s[0] * p[0] + s[1] * p[1] + s[2] * p[2]) * scale;
    if (u < 0 || u > 1) return false;
    const float q[3] = {s[1] * e[2] - s[2] * e[1], s[2] * e[0] - s[0] * e[2], s[0] * e[1] - s[1] * e[0]};
    v = (d[0] * q[0] + d[1] * q[1] + d[2] * q[2]) * scale;
    if (v < 0 || u + v > 1) return false;
    t = (f[0] * q[0] + f[1] * q[1] + f[2] * q[2]) * scale;
    return t > 0 && t < nearest;
}

// The first face on a ray before `hit.t`; with `any` the first that is found.
__device__ inline void cast(const Models& models, const Placed& placed, int picture, const float* origin,
                            const float* direction, bool any, Hit& hit) {
    for (int k = 0; k < placed.per_picture; ++k) {
        const int row = picture * placed.per_picture + k, model = placed.model[row];
        if (model < 0) continue;
        const float* m = placed.to_local + 12 * row;
        float o[3], d[3], inverse[3];
        for (int i = 0; i < 3; ++i) {
            o[i] = m[4 * i] * origin[0] + m[4 * i + 1] * origin[1] + m[4 * i + 2] * origin[2] + m[4 * i + 3];
            d[i] = m[4 * i] * direction[0] + m[4 * i + 1] * direction[1] + m[4 * i + 2] * direction[2];
            inverse[i] = 1 / (fabs(d[i]) < 1e-9f ? 1e-9f : d[i]);
        }
        const float* boxes = models.boxes + 6LL * models.first_box[model];
        const int inner = (models.first_box[model + 1] - models.first_box[model]) / 2, face_end = models.first_face[model + 1];
        int stack[STACK], depth = 1;
        stack[0] = 0;
        while (depth > 0) {
            const int box = stack[--depth];
            if (!meets(boxes + 6 * box, o, inverse, hit.t)) continue;
            if (box < inner) {
                // The child that the ray enters first is looked at first, roughly: by the side on which it lies.
                const float *a = boxes + 6 * (2 * box + 1), *b = a + 6;
                float order = 0;
                for (int i = 0; i < 3; ++i) order += (a[i] + a[3 + i] - b[i] - b[3 + i]) * d[i];
                stack[depth++] = 2 * box + (order < 0 ? 2 : 1);
                stack[depth++] = 2 * box + (order < 0 ? 1 : 2);
                continue;
            }
            const int first = models.first_face[model] + (box - inner) * LEAF;
            for (int face = first; face < first + LEAF && face < face_end; ++face) {
                float t, u, v;
                if (!meets_face(models.corners + 9LL * face, o, d, hit.t, t, u, v)) continue;
                hit = {t, u, v, k, face};
                if (any) return;
            }
        }
    }
}

__device__ inline void cast_one(const Models& models, const Placed& placed, const float* origins, const float* directions,
                                int rays, bool any, long long i, float* t, float* weights, int* found) {
    if (!(t[i] > 0)) return;
    Hit hit = {t[i], 0, 0, -1, -1};
    cast(models, placed, (int)(i / rays), origins + 3 * i, directions + 3 * i, any, hit);
    t[i] = hit.t, weights[2 * i] = hit.u, weights[2 * i + 1] = hit.v;
    found[2 * i] = hit.instance, found[2 * i + 1] = hit.face;
}

#ifndef ON_HOST
__global__ void cast_all(Models models, Placed placed, const float* origins, const float* directions, int rays, bool any,
                         long long count, float* t, float* weights, int* found) {
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < count) cast_one(models, placed, origins, directions, rays, any, i, t, weights, found);
}
#endif

}  // namespace

extern "C" {

// `rays` rays in each of `pictures` pictures. `t` holds how far a ray may go (0: it is not cast) and gets where it ends;
// `weights` those of the face's second and third corner; `found` the place in the picture's list and the face, -1 for none.
int cast_rays(const float* corners, const float* boxes, const int* first_box, const int* first_face, const int* model,
              const float* to_local, int per_picture, const float* origins, const float* directions, int pictures, int rays, int any, float* t, float* weights, int* found, void* stream) {
    const Models models = {corners, boxes, first_box, first_face};
    const Placed placed = {model, to_local, per_picture};
    const long long count = (long long)pictures * rays;
    if (count == 0) return 0;
#ifdef ON_HOST
    for (long long i = 0; i < count; ++i) cast_one(models, placed, origins, directions, rays, any, i, t, weights, found);
    return 0;
#else
    cast_all<<<(unsigned)((count + 127) / 128), 128, 0, (cudaStream_t)stream>>>(models, placed, origins, directions, rays,
                                                                             any, count, t, weights, found);
    return cudaGetLastError();
#endif
}
}
