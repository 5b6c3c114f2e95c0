// Enough of CUDA to run the kernels of omni_gen3d/render/gpu on a processor, one thread after the other: every thread of
// a block is a fibre that runs to its next barrier. Compile with: g++ -x c++ -include host_cuda.h library.cu
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define ON_HOST
#define __device__ static
#define __global__ static
#define __shared__ static

#define __launch_bounds__(...)

struct uint4 { unsigned x, y, z, w; };
struct float4 { float x, y, z, w; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

static dim3 gridDim, blockDim, blockIdx, threadIdx;

static inline float half_to_float(unsigned short bits) {
    _Float16 value;
    std::memcpy(&value, &bits, 2);
    return (float)value;
}
static inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
template <class T, class U> static T atomicAdd(T* at, U value) { T old = *at; *at = old + value; return old; }
template <class T, class U> static T atomicMin(T* at, U value) { T old = *at; if (value < old) *at = value; return old; }
template <class T, class U> static T atomicMax(T* at, U value) { T old = *at; if (value > old) *at = value; return old; }
template <class T, class U> static T atomicOr(T* at, U value) { T old = *at; *at = old | value; return old; }
static int cudaGetLastError() { return 0; }

namespace fibres {
constexpr size_t STACK = 1 << 14;
static ucontext_t scheduler;
static std::vector<ucontext_t> contexts;
static std::vector<char> stacks;
static std::vector<char> finished;
static std::function<void()> body;
static int current, generation, sums[2];

static void enter() {
    body();
    finished[current] = 1;
    swapcontext(&contexts[current], &scheduler);
}
static void barrier() { swapcontext(&contexts[current], &scheduler); }

static void run_block(int count) {
    if ((int)contexts.size() < count) contexts.resize(count), stacks.resize(count * STACK), finished.resize(count);
    for (int i = 0; i < count; ++i) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stacks.data() + i * STACK;
        contexts[i].uc_stack.ss_size = STACK;
        contexts[i].uc_link = nullptr;
        makecontext(&contexts[i], enter, 0);
        finished[i] = 0;
    }
    generation = sums[0] = sums[1] = 0;
    for (int left = count; left > 0;) {
        for (current = 0; current < count; ++current) {
            if (finished[current]) continue;
            threadIdx = dim3(current, 0, 0);
            swapcontext(&scheduler, &contexts[current]);
            left -= finished[current];
        }
        ++generation;
        sums[generation & 1] = 0;
    }
}

template <class Kernel> static void launch(dim3 grid, dim3 block, Kernel kernel) {
    body = kernel;
    gridDim = grid, blockDim = block;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = dim3(x, y, z);
                run_block(block.x);
            }
}
}  // namespace fibres

static inline void __syncthreads() { fibres::barrier(); }
template <class T> static T __shfl_xor_sync(unsigned, T value, int lanes) {
    static T given[2][1024];
    const int now = fibres::generation & 1, self = fibres::current;
    given[now][self] = value;
    fibres::barrier();
    return given[now][self ^ lanes];
}
static inline int __syncthreads_count(int predicate) {
    const int now = fibres::generation & 1;
    fibres::sums[now] += predicate != 0;
    fibres::barrier();
    return fibres::sums[now];
}

#define LAUNCH(kernel, grid, block, stream, ...) fibres::launch(grid, block, [&] { kernel(__VA_ARGS__); })
