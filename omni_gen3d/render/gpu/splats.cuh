// Splats in many pictures at once: what each camera sees, lists of it for each tile, front-to-back compositing.
#pragma once
#include "meshes.cuh"
#include "projection.cuh"

constexpr int CULLERS = 512;   // threads that look for groups for one camera
constexpr int RUN = 8;         // groups that one of them looks at before they compare notes
constexpr int TALLIERS = 256;  // threads that list Gaussians, some groups at a time
constexpr int BINS = 4096;     // pictures of at most so many bins count them in shared memory
constexpr int WARP = 32;
constexpr int RUN_OF_BINS = 256;  // entries that are taken together where neighbouring bins hold few
constexpr int SORTED = 512;    // entries of a tile that are sorted at a time
constexpr int SLABS = 256;
constexpr int ABREAST = 8;     // entries whose coverage of a pixel is found together

__global__ void read_cameras(const void* poses, const void* lenses, int doubles, double near, double far, int count,
                             Camera* rows, u64* flaw) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const auto number = [&](const void* from, long long index) {
        return doubles ? ((const double*)from)[index] : (double)((const float*)from)[index];
    };
    double most = 0;
    Camera& row = rows[at];
    for (int k = 0; k < 12; ++k) {
        row.to_camera[k] = number(poses, 16ll * at + k);
        most += fabs(row.to_camera[k]);
    }
    row.fx = number(lenses, 9ll * at), row.fy = number(lenses, 9ll * at + 4);
    row.cx = number(lenses, 9ll * at + 2), row.cy = number(lenses, 9ll * at + 5);
    row.near = near, row.far = far;
    most += fabs(row.fx) + fabs(row.fy) + fabs(row.cx) + fabs(row.cy);
    const double skew = number(lenses, 9ll * at + 1);
    if (!(most < 1e300))
        atomicOr(flaw, 1ull);
    else if (!(row.fx > 0 && row.fy > 0) || skew != 0)
        atomicOr(flaw, 2ull);
}

// One thread for each splat instance of each camera.
__global__ void place(Call call) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= call.num_cameras * call.max_splats) return;
    const int camera = at / call.max_splats, number = at % call.max_splats;
    const World& world = call.worlds[call.camera_worlds[camera]];
    if (number >= world.num_splats) return;
    double m[12], inverse[9];
    compose(call.cameras[camera].to_camera, world.splats[number].to_world, m);
    invert(m, inverse);
    Placed& placed = call.placed[at];
    for (int k = 0; k < 12; ++k) placed.to_camera[k] = (float)m[k];
    for (int k = 0; k < 9; ++k) placed.to_local[k] = (float)inverse[k];
    for (int k = 0; k < 3; ++k)
        placed.eye[k] = (float)-(inverse[3 * k] * m[3] + inverse[3 * k + 1] * m[7] + inverse[3 * k + 2] * m[11]);
}

// The level of a group that a camera needs, -1 where it cannot see the group; widens the range of depths that are seen.
// Nothing that `project` keeps is lost: its bounds, times the depth, are planes.
__device__ inline int level_for(const Group& group, const SplatInstance& set, const Placed& placed,
                                const Camera& camera, float width, float height, float pixels, float& nearest,
                                float& farthest) {
    const float* m = placed.to_camera;
    float c[3];
    for (int k = 0; k < 3; ++k)
        c[k] = m[4 * k] * group.centre[0] + m[4 * k + 1] * group.centre[1] + m[4 * k + 2] * group.centre[2] + m[4 * k + 3];
    const float radius = group.radius * set.stretch * 1.0001f + 1e-5f, reach = group.reach * set.stretch;
    const float near = camera.near;
    if (c[2] + radius < near || c[2] - radius > (float)camera.far) return -1;
    const float blur = sqrtf(WIDEST_CUT * BLUR);
    for (int axis = 0; axis < 2; ++axis) {
        const float f = axis ? camera.fy : camera.fx, p = axis ? camera.cy : camera.cx, side = axis ? height : width;
        const float steepest = fmaxf((p + GUARD * side) / f, ((1 + GUARD) * side - p) / f);
        const float spread = f * reach * sqrtf(1 + steepest * steepest);
        const float low = p + blur, high = side - p + blur;
        if (f * c[axis] + low * c[2] + radius * sqrtf(f * f + low * low) + spread < 0) return -1;
        if (-f * c[axis] + high * c[2] + radius * sqrtf(f * f + high * high) + spread < 0) return -1;
    }
    nearest = fminf(nearest, fmaxf(c[2] - radius, near));
    farthest = fmaxf(farthest, fminf(c[2] + radius, (float)camera.far));
    const float footprint = pixels * fmaxf(c[2] - radius, near) / (fmaxf(camera.fx, camera.fy) * set.stretch);
    int level = 0;
    while (level + 1 < LEVELS && group.levels[level + 1].size <= footprint) ++level;
    return level;
}

// One block for each camera: its items, in the order of the world's entries, and the depths between which they lie.
__global__ void cull(Call call) {
    __shared__ int sums[CULLERS];
    __shared__ unsigned depths[2];
    const int camera = blockIdx.x, thread = threadIdx.x;
    if (thread == 0) depths[0] = ~0u, depths[1] = 0;
    __syncthreads();
    const World& world = call.worlds[call.camera_worlds[camera]];
    const Camera& lens = call.cameras[camera];
    Item* items = call.items + (long long)camera * call.max_entries;
    int found = 0;
    float nearest = INFINITY, farthest = 0;
    for (int base = 0; base < world.num_entries; base += CULLERS * RUN) {
        unsigned levels = 0;  // four bits for each entry of the thread's run: its level plus one, 0 where it is not seen
        int seen = 0;
        for (int k = 0; k < RUN && base + thread * RUN + k < world.num_entries; ++k) {
            const Entry entry = world.entries[base + thread * RUN + k];
            const SplatInstance& set = world.splats[entry.instance];
            const Placed& placed = call.placed[(long long)camera * call.max_splats + entry.instance];
            const int level =
                level_for(set.groups[entry.group], set, placed, lens, call.width, call.height, call.pixels, nearest, farthest);
            levels |= (unsigned)(level + 1) << 4 * k;
            seen += level >= 0;
        }
        sums[thread] = seen;
        __syncthreads();
        for (int step = 1; step < CULLERS; step *= 2) {
            const int other = thread >= step ? sums[thread - step] : 0;
            __syncthreads();
            sums[thread] += other;
            __syncthreads();
        }
        int slot = found + sums[thread] - seen;
        for (int k = 0; k < RUN; ++k) {
            const int level = (int)(levels >> 4 * k & 15) - 1;
            if (level < 0) continue;
            const Entry entry = world.entries[base + thread * RUN + k];
            const Level& chosen = world.splats[entry.instance].groups[entry.group].levels[level];
            items[slot++] = {entry.instance, chosen.first, chosen.count, 0};
        }
        found += sums[CULLERS - 1];
        __syncthreads();
    }
    // Positive floats sort as their bits do.
    atomicMin(depths, __float_as_uint(nearest));
    atomicMax(depths + 1, __float_as_uint(farthest));
    __syncthreads();
    if (thread == 0) {
        call.num_items[camera] = found;
        const float low = sqrtf(__uint_as_float(depths[0])), high = sqrtf(__uint_as_float(depths[1]));
        call.depths[2 * camera] = found ? low : 0;
        call.depths[2 * camera + 1] = found ? DEPTHS / fmaxf(high - low, 1e-6f) : 0;
    }
}

// Whether there is room for the lists of all tiles; where there is none nothing is drawn, and the host asks again.
__device__ inline bool fits(const Call& call) {
    return call.ends[(long long)call.num_cameras * call.tiles_x * call.tiles_y * DEPTHS - 1] <= call.capacity;
}

// Blocks (camera, part): each Gaussian is counted once for every tile that it touches, in the bin of its depth; in the
// second pass, where there are keys, its key is written there. A key sorts by depth; its low half says where the Gaussian
// is found again.
__global__ void tally(Call call) {
    __shared__ int bins[BINS];
    const int camera = blockIdx.x, thread = threadIdx.x, num_bins = call.tiles_x * call.tiles_y * DEPTHS;
    const bool fill = call.keys != nullptr, shared = num_bins <= BINS;
    if (fill && !fits(call)) return;
    const World& world = call.worlds[call.camera_worlds[camera]];
    const Camera& lens = call.cameras[camera];
    const Item* items = call.items + (long long)camera * call.max_entries;
    const int num_items = call.num_items[camera];
    int* counts = call.counts + (long long)camera * num_bins;
    int* shares = call.shares + ((long long)camera * gridDim.y + blockIdx.y) * num_bins;
    const long long* ends = call.ends + (long long)camera * num_bins;
    const long long begin = fill && camera ? ends[-1] : 0;
    const float nearest = call.depths[2 * camera], scale = call.depths[2 * camera + 1];
    if (shared) {
        for (int bin = thread; bin < num_bins; bin += TALLIERS)
            bins[bin] = !fill ? 0 : shares[bin] + (bin ? (int)(ends[bin - 1] - begin) : 0);
        __syncthreads();
    }
    constexpr int GROUPS = TALLIERS / GROUP;
    for (int base = blockIdx.y * GROUPS; base < num_items; base += gridDim.y * GROUPS) {
        const int number = base + thread / GROUP, member = thread % GROUP;
        if (number >= num_items) continue;
        const Item item = items[number];
        if (member >= item.count) continue;
        const Gaussian g = read_gaussian(world.splats[item.instance].shapes, item.first + member);
        const float* m = call.placed[(long long)camera * call.max_splats + item.instance].to_camera;
        Splat splat;
        if (!project(g, m, lens, call.width, call.height, splat)) continue;
        const int slab = (int)fminf(fmaxf((sqrtf(splat.depth) - nearest) * scale, 0.0f), DEPTHS - 1.0f);
        const u64 key = ((u64)__float_as_uint(splat.depth) << 32) | (unsigned)(number * GROUP + member);
        int top, bottom, left, right;
        tile_rows(splat, call.tiles_y, top, bottom);
        for (int row = top; row < bottom; ++row) {
            tiles_in_row(splat, row, call.tiles_x, left, right);
            for (int t = row * call.tiles_x + left; t < row * call.tiles_x + right; ++t) {
                const int bin = t * DEPTHS + slab;
                if (!fill)
                    atomicAdd(shared ? bins + bin : counts + bin, 1);
                else
                    call.keys[shared ? begin + atomicAdd(bins + bin, 1) : ends[bin] - atomicAdd(counts + bin, -1)] = key;
            }
        }
    }
    if (shared && !fill) {
        __syncthreads();
        // What this block will write follows what the others have asked room for.
        for (int bin = thread; bin < num_bins; bin += TALLIERS)
            if (bins[bin]) shares[bin] = atomicAdd(counts + bin, bins[bin]);
    }
}

// A bitonic network over the keys of a warp, EACH of every lane, which are neighbours in the order.
template <int EACH>
__device__ inline void sort_in_warp(u64 (&mine)[EACH], int lane) {
    for (int run = 2; run <= WARP * EACH; run *= 2) {
        for (int step = run / 2; step >= EACH; step /= 2) {
            const bool first = !(lane * EACH & step);
#pragma unroll
            for (int j = 0; j < EACH; ++j) {
                const u64 other = __shfl_xor_sync(~0u, mine[j], step / EACH);
                const bool ascending = !(lane * EACH + j & run);
                if ((other < mine[j]) == (first == ascending)) mine[j] = other;
            }
        }
#pragma unroll
        for (int step = EACH / 2; step > 0; step /= 2) {
            if (step >= run) continue;
#pragma unroll
            for (int j = 0; j < EACH; ++j) {
                if (j & step) continue;
                const u64 a = mine[j], b = mine[j | step];
                if ((a > b) == !(lane * EACH + j & run)) mine[j] = b, mine[j | step] = a;
            }
        }
    }
}

// Ascending, from `keys` to `sorted`: each of the two warps sorts its half; where a key goes is its place in its own half
// and how many of the other half are smaller. No two keys are equal.
template <int EACH>
__device__ inline void sort_in_halves(u64* keys, u64* sorted, int count) {
    constexpr int HALF = WARP * EACH;
    const int lane = threadIdx.x % WARP, own = threadIdx.x / WARP * HALF, other = HALF - own;
    u64 mine[EACH];
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int i = own + lane + j * WARP;
        mine[j] = i < count ? keys[i] : ~0ull;
    }
    sort_in_warp(mine, lane);
#pragma unroll
    for (int j = 0; j < EACH; ++j) keys[own + lane * EACH + j] = mine[j];
    __syncthreads();
    int smaller[EACH] = {};
#pragma unroll
    for (int step = HALF; step > 0; step /= 2)
#pragma unroll
        for (int j = 0; j < EACH; ++j)
            if (smaller[j] + step <= HALF && keys[other + smaller[j] + step - 1] < mine[j]) smaller[j] += step;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int rank = lane * EACH + j + smaller[j];
        if (rank < count) sorted[rank] = mine[j];
    }
    __syncthreads();
}

static_assert(THREADS == 2 * WARP, "a half for each warp");

__device__ inline void sort_keys(u64* keys, u64* sorted, int count) {
    if (count <= 2 * WARP)
        sort_in_halves<1>(keys, sorted, count);
    else if (count <= 4 * WARP)
        sort_in_halves<2>(keys, sorted, count);
    else if (count <= 8 * WARP)
        sort_in_halves<4>(keys, sorted, count);
    else
        sort_in_halves<8>(keys, sorted, count);
}

// The end of a range of keys from `low` on that holds at least one and at most SORTED of those in the list.
__device__ inline u64 slab_end(const u64* list, int count, u64 low, u64 end, int* bins, u64* answer) {
    for (;;) {
        const u64 width = (end - low - 1) / SLABS + 1;
        for (int i = threadIdx.x; i < SLABS; i += THREADS) bins[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += THREADS) {
            const u64 key = list[i];
            if (key >= low && key < end) atomicAdd(bins + (int)((key - low) / width), 1);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int total = 0, bin = 0;
            while (bin < SLABS && total + bins[bin] <= SORTED) total += bins[bin++];
            answer[0] = low + width * bin;  // where the first bin that does not fit begins
            answer[1] = total;
        }
        __syncthreads();
        const u64 found = answer[0], total = answer[1];
        __syncthreads();
        if (total > 0) return found < end ? found : end;
        low = found, end = found + width < end ? found + width : end;
    }
}

// What it takes to draw one entry of a list.
struct Entrant {
    Gaussian gaussian;
    float color[3];
    int instance;
};

__device__ inline Entrant read_entrant(unsigned source, const Item* items, const World& world, const Placed* placed) {
    const Item item = items[source / GROUP];
    const int index = item.first + source % GROUP;
    const SplatInstance& set = world.splats[item.instance];
    Entrant entrant;
    entrant.instance = item.instance;
    entrant.gaussian = read_gaussian(set.shapes, index);
    const float *mean = entrant.gaussian.mean, *eye = placed[item.instance].eye;
    paint(set.sh + (long long)index * set.coefficients * 3, set.coefficients, mean[0] - eye[0], mean[1] - eye[1],
          mean[2] - eye[2], entrant.color);
    for (int channel = 0; channel < 3; ++channel) entrant.color[channel] *= set.gain[channel];
    return entrant;
}

// One block for each tile of each camera, one thread for each pixel: light, coverage, and what takes the ray past half
// of its coverage.
__global__ void __launch_bounds__(THREADS, 12) composite(Call call) {
    __shared__ u64 keys[SORTED], order[SORTED];
    __shared__ long long ends[DEPTHS + 1];
    __shared__ float4 shapes[THREADS];   // u, v, shear, -1/2 log2(e) / var_row
    __shared__ float4 strengths[THREADS];  // -1/2 log2(e) / var_y, log2(opacity), depth
    __shared__ float4 paints[THREADS];
    __shared__ int bins[SLABS];
    __shared__ u64 answer[2];
    __shared__ int gathered;
    if (!fits(call)) return;
    const int tiles = call.tiles_x * call.tiles_y;
    const int camera = blockIdx.x / tiles, tile = blockIdx.x % tiles, thread = threadIdx.x;
    const int left = tile % call.tiles_x * TILE, top = tile / call.tiles_x * TILE;
    const int column = left + thread % TILE, row = top + thread / TILE;
    const bool inside = column < call.width && row < call.height;
    const World& world = call.worlds[call.camera_worlds[camera]];
    const Camera& lens = call.cameras[camera];
    const Item* items = call.items + (long long)camera * call.max_entries;
    const Placed* placed = call.placed + (long long)camera * call.max_splats;
    const long long pixel = ((long long)camera * call.height + row) * call.width + column;
    const u64 nearest = call.solid && inside ? call.solid[pixel] : ~0ull;
    const float stop = nearest != ~0ull ? __uint_as_float((unsigned)(nearest >> 32)) : INFINITY;

    if (thread < DEPTHS) ends[thread + 1] = call.ends[(long long)blockIdx.x * DEPTHS + thread];
    if (thread == 0) ends[0] = blockIdx.x ? call.ends[(long long)blockIdx.x * DEPTHS - 1] : 0;
    __syncthreads();
    const float px = thread % TILE + 0.5f, py = thread / TILE + 0.5f;
    float transmittance = 1, red = 0, green = 0, blue = 0, expected = 0;
    bool live = inside, all = false;
    unsigned surface = ~0u;
    for (int bin = 0; bin < DEPTHS && !all;) {
        const long long first = ends[bin++];
        while (bin < DEPTHS && ends[bin + 1] - first <= RUN_OF_BINS) ++bin;
        const u64* list = call.keys + first;
        const int count = (int)(ends[bin] - first);
        u64 low = (u64)__float_as_uint((float)lens.near) << 32;
        for (int done = 0; done < count && !all;) {
            int size = count;
            if (count <= SORTED) {
                for (int i = thread; i < count; i += THREADS) keys[i] = list[i];
                __syncthreads();
            } else {
                // More than fit are sorted from front to back, a slab of depths at a time.
                const u64 last = ((u64)__float_as_uint((float)lens.far) + 1) << 32;
                const u64 end = slab_end(list, count, low, last, bins, answer);
                if (thread == 0) gathered = 0;
                __syncthreads();
                for (int i = thread; i < count; i += THREADS) {
                    const u64 key = list[i];
                    if (key >= low && key < end) keys[atomicAdd(&gathered, 1)] = key;
                }
                __syncthreads();
                size = gathered;
                low = end;
            }
            done += size;
            sort_keys(keys, order, size);
            for (int base = 0; base < size && !all; base += THREADS) {
                const int batch = size - base < THREADS ? size - base : THREADS;
                strengths[thread] = {0, -1000, 0, 0};
                shapes[thread] = {0, 0, 0, 0};
                Splat s;
                Entrant entrant;
                if (thread < batch) entrant = read_entrant((unsigned)order[base + thread], items, world, placed);
                // The compiler may round here otherwise than in `tally`; what it now finds outside has no opacity.
                if (thread < batch && project(entrant.gaussian, placed[entrant.instance].to_camera, lens, call.width,
                                              call.height, s)) {
                    const float c = -0.7213475204444817f;
                    shapes[thread] = {s.u - left, s.v - top, s.shear, c / s.var_row};
                    strengths[thread] = {c / s.var_y, log2f(entrant.gaussian.opacity), s.depth, 0};
                    paints[thread] = {entrant.color[0], entrant.color[1], entrant.color[2], 0};
                }
                __syncthreads();
                for (int k = 0; k < batch && live; k += ABREAST) {
                    float alphas[ABREAST], most = 0;
#pragma unroll
                    for (int j = 0; j < ABREAST; ++j) {
                        const float4 shape = shapes[k + j], strength = strengths[k + j];
                        const float dy = py - shape.y, dx = px - shape.x - shape.z * dy;
                        alphas[j] = fminf(MAX_ALPHA, exp2f(strength.y + strength.x * dy * dy + shape.w * dx * dx));
                        most = fmaxf(most, alphas[j]);
                    }
                    if (most < MIN_ALPHA) continue;
#pragma unroll
                    for (int j = 0; j < ABREAST; ++j) {
                        const float depth = strengths[k + j].z, alpha = alphas[j];
                        const float after = transmittance * (1 - alpha);
                        if (alpha < MIN_ALPHA || !live) continue;
                        if (depth >= stop || after <= 1e-4f) {
                            live = false;
                            continue;
                        }
                        if (transmittance > 0.5f && after <= 0.5f) surface = (unsigned)order[base + k + j];
                        const float weight = transmittance * alpha;
                        const float4 color = paints[k + j];
                        red += weight * color.x, green += weight * color.y, blue += weight * color.z;
                        expected += weight * depth;
                        transmittance = after;
                    }
                }
                all = __syncthreads_count(live) == 0;
            }
        }
    }
    if (!inside) return;
    call.light[pixel] = {red, green, blue, transmittance};
    call.expected[pixel] = expected;
    call.surfaces[pixel] = surface;
}

// One thread for each pixel: what is behind the splats, and the truth about what the pixel shows.
__global__ void resolve(Call call) {
    const long long pixel = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const int area = call.width * call.height;
    if (pixel >= (long long)area * call.num_cameras || !fits(call)) return;
    const int camera = (int)(pixel / area), row = (int)(pixel % area) / call.width, column = (int)(pixel % area) % call.width;
    const World& world = call.worlds[call.camera_worlds[camera]];
    const Camera& lens = call.cameras[camera];
    const u64 nearest = call.solid ? call.solid[pixel] : ~0ull;
    const float stop = nearest != ~0ull ? __uint_as_float((unsigned)(nearest >> 32)) : INFINITY;
    const float x = (column + 0.5f - (float)lens.cx) / (float)lens.fx, y = (row + 0.5f - (float)lens.cy) / (float)lens.fy;
    const float4 light = call.light[pixel];
    const unsigned surface = call.surfaces[pixel];
    Hit hit = {};
    hit.prim = hit.instance = -1;
    int splat = -1;
    float behind[3] = {call.background[0], call.background[1], call.background[2]};
    if (nearest != ~0ull) {
        hit = shade(world.solid, world, lens, (int)(nearest & 0xffffffffu), stop, x, y, behind);
        hit.median = stop;
    }
    if (surface != ~0u) {
        const Item item = call.items[(long long)camera * call.max_entries + surface / GROUP];
        const SplatInstance& set = world.splats[item.instance];
        splat = item.first + surface % GROUP;
        const Gaussian g = read_gaussian(set.shapes, splat);
        const Placed& at = call.placed[(long long)camera * call.max_splats + item.instance];
        const float* m = at.to_camera;
        float normal[3];
        const float depth = meet(g, at, x, y, normal);
        hit.depth = fminf(fmaxf(depth, (float)lens.near), stop);
        hit.median = m[8] * g.mean[0] + m[9] * g.mean[1] + m[10] * g.mean[2] + m[11];
        to_world_direction(lens, normal, hit.normal);
        hit.prim = set.prim, hit.instance = set.instance, hit.semantic = set.semantic;
        hit.to_world = set.to_world, hit.earlier = set.earlier;
        if (call.labels) {
            const u64 label = call.labels[pixel];
            if (label != ~0ull && fabsf(__uint_as_float((unsigned)(label >> 32)) - hit.depth) <= LABEL_TOLERANCE)
                hit.semantic = world.labels.instances[world.labels.owners[label & 0xffffffffu]].semantic;
        }
    }
    const Pictures& out = call.out;
    if (out.color) {
        out.color[3 * pixel] = fminf(light.x + light.w * behind[0], 1.0f);
        out.color[3 * pixel + 1] = fminf(light.y + light.w * behind[1], 1.0f);
        out.color[3 * pixel + 2] = fminf(light.z + light.w * behind[2], 1.0f);
    }
    if (out.depth) out.depth[pixel] = hit.depth;
    if (out.distance) out.distance[pixel] = hit.depth * sqrtf(x * x + y * y + 1);
    if (out.normal)
        for (int k = 0; k < 3; ++k) out.normal[3 * pixel + k] = hit.normal[k];
    if (out.alpha) out.alpha[pixel] = nearest != ~0ull ? 1 : 1 - light.w;
    if (out.prim) out.prim[pixel] = hit.prim;
    if (out.instance) out.instance[pixel] = hit.instance;
    if (out.semantic) out.semantic[pixel] = hit.semantic;
    if (out.median) out.median[pixel] = hit.median;
    if (out.splat) out.splat[pixel] = splat;
    if (out.expected) out.expected[pixel] = light.w < 1 ? call.expected[pixel] / (1 - light.w) : 0;
    if (out.motion) motion(lens, call.earlier ? call.earlier + camera : nullptr, hit, x, y, column, row, out.motion + 2 * pixel);
}
