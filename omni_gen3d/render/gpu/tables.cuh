// The tables that the kernels read, laid out as the numpy types of tables.py.
#pragma once

typedef unsigned long long u64;
typedef unsigned short half_bits;

constexpr int GROUP = 64;    // Gaussians of one group
constexpr int LEVELS = 6;    // levels of detail of a group, the first is all of it
constexpr int TILE = 8;      // pixels
constexpr int THREADS = TILE * TILE;
constexpr int DEPTHS = 16;   // bins of depth of a tile, even in the square root of the depth

struct Level {
    int first, count;
    float size;  // how far apart lies what one Gaussian of the level stands for [unit of the set]
};

// Gaussians that lie together; their centres are within `radius`, none reaches farther than `reach` from its own.
struct Group {
    float centre[3], radius, reach;
    Level levels[LEVELS];
};

// A shape takes two words of 16 bytes: x, y, z as floats, opacity as a half; rotation wxyz and scales as halves.
struct SplatInstance {
    double to_world[12];
    double earlier[12];
    const uint4* shapes;
    const half_bits* sh;
    const Group* groups;
    float gain[3];
    float stretch;  // the largest factor by which to_world lengthens anything
    int coefficients, prim, instance, semantic;
};

struct MeshInstance {
    double to_world[12];
    double earlier[12];
    int prim, instance, semantic, spare;
};

// Its copies, each half as large as the one before, follow it; see render/textures.py.
struct Texture {
    int first, width, height, levels, wrap_s, wrap_t;
};

struct Meshes {
    const float* points;
    const int* faces;
    const int* owners;
    const float* normals;
    const float* colors;
    const float* coordinates;
    const int* pictures;
    const Texture* textures;
    const unsigned char* texels;
    const MeshInstance* instances;
    int num_faces, spare;
};

struct Light {
    float toward[3], color[3];
};

struct Entry {
    int instance, group;  // instance counts from the first of the world
};

// What cameras that look into one environment see.
struct World {
    const SplatInstance* splats;
    const Entry* entries;
    const Light* lights;
    Meshes solid, labels;
    float ambient[3], head;
    int num_splats, num_entries, num_lights, spare;
};

struct Camera {
    double to_camera[12];
    double fx, fy, cx, cy, near, far;
};

// A splat instance before a camera.
struct Placed {
    float to_camera[12];
    float to_local[9];
    float eye[3];  // of the camera, in the frame of the set
};

// A level of a group that a camera sees.
struct Item {
    int instance, first, count, spare;
};

// Where the pictures go; those that nobody wants are null. All have the shape (cameras, height, width, channels).
struct Pictures {
    float* color;
    float* depth;
    float* distance;
    float* normal;
    float* alpha;
    int* prim;
    int* instance;
    int* semantic;
    float* motion;
    float* median;
    float* expected;
    int* splat;
};

struct Call {
    const Camera* cameras;
    const Camera* earlier;
    const int* camera_worlds;
    const World* worlds;
    Placed* placed;      // (cameras, max_splats)
    Item* items;         // (cameras, max_entries)
    int* num_items;      // (cameras,)
    float* depths;       // (cameras, 2): square root of the nearest depth, bins over the root of the depth
    int* counts;         // (cameras, tiles, DEPTHS): entries of a bin, then how many of them are yet to be written
    int* shares;         // (cameras, parts, tiles, DEPTHS): where each block of `tally` begins in a bin
    const long long* ends;  // (cameras * tiles * DEPTHS,): where the list of each bin ends
    u64* keys;
    long long capacity;  // keys that there is room for
    u64* solid;          // (cameras, height, width): depth and face of the nearest mesh, or null
    u64* labels;
    float4* light;       // (cameras, height, width): what splats shine, and the share of what is behind them
    float* expected;     // likewise: depth times coverage
    unsigned* surfaces;  // likewise: the splat that takes the ray past half of its coverage
    float background[3];
    float pixels;        // detail finer than this is merged [pixels]
    int num_cameras, max_splats, max_entries, width, height, tiles_x, tiles_y;
    Pictures out;
};
