// The functions that Python calls. Every one starts kernels on a stream and returns cudaGetLastError().
#ifndef ON_HOST
#include <cuda_fp16.h>
#include <cuda_runtime.h>
__device__ inline float half_to_float(unsigned short bits) { return __half2float(__ushort_as_half(bits)); }
#define LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, (cudaStream_t)(stream)>>>(__VA_ARGS__)
#endif
#include "splats.cuh"

extern "C" {

// Bytes of a table, so that Python can tell that its own layout is the same.
int table_size(int table) {
    const int sizes[] = {sizeof(Group),  sizeof(SplatInstance), sizeof(MeshInstance), sizeof(Light),
                         sizeof(Entry),  sizeof(World),         sizeof(Camera),       sizeof(Placed),
                         sizeof(Item),   sizeof(Call)};
    return sizes[table];
}

// Rows of cameras from contiguous poses (count, 4, 4) and lenses (count, 3, 3), each of floats or of doubles; `flaw` gets
// bits: 1 a number that is not finite, 2 a focal length that is not positive or a skew.
int take_cameras(const void* poses, const void* lenses, int doubles, double near, double far, int count, Camera* rows,
                 unsigned long long* flaw, void* stream) {
    LAUNCH(read_cameras, dim3((count + 127) / 128), dim3(128), stream, poses, lenses, doubles, near, far, count, rows, flaw);
    return cudaGetLastError();
}

// What the cameras see, and how many entries each tile will have.
int find(const Call* call, int parts, void* stream) {
    Call first = *call;
    first.keys = nullptr;
    const int placed = first.num_cameras * first.max_splats;
    if (placed == 0) return 0;
    LAUNCH(place, dim3((placed + 127) / 128), dim3(128), stream, first);
    LAUNCH(cull, dim3(first.num_cameras), dim3(CULLERS), stream, first);
    LAUNCH(tally, dim3(first.num_cameras, parts), dim3(TALLIERS), stream, first);
    return cudaGetLastError();
}

// The nearest face of every pixel; `solid_faces` and `label_faces` are the most that a world has.
int draw_meshes(const Call* call, int solid_faces, int label_faces, void* stream) {
    const int bands = (call->height + BAND - 1) / BAND;
    for (int of_labels = 0; of_labels < 2; ++of_labels) {
        const int faces = of_labels ? label_faces : solid_faces;
        if (faces == 0) continue;
        LAUNCH(rasterize, dim3((faces + FACES - 1) / FACES, call->num_cameras, bands), dim3(FACES * LANES), stream, *call,
               (bool)of_labels);
    }
    return cudaGetLastError();
}

// The lists of the tiles, then the pictures.
int draw(const Call* call, int parts, void* stream) {
    if (call->max_splats && call->keys) LAUNCH(tally, dim3(call->num_cameras, parts), dim3(TALLIERS), stream, *call);
    LAUNCH(composite, dim3(call->num_cameras * call->tiles_x * call->tiles_y), dim3(THREADS), stream, *call);
    const long long pixels = (long long)call->num_cameras * call->width * call->height;
    LAUNCH(resolve, dim3((unsigned)((pixels + 127) / 128)), dim3(128), stream, *call);
    return cudaGetLastError();
}
}
