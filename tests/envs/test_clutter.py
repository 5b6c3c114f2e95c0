"""Clutter stands on the floor and touches nothing; on a stage it is seen and collided with, and gone when asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from pxr import Usd, UsdGeom, UsdPhysics, UsdSemantics

from omni_gen3d.envs.applying import apply_to_stage
from omni_gen3d.envs.clutter import Pool, strew
from omni_gen3d.envs.entry import Entry
from omni_gen3d.envs.randomize import draw
from omni_gen3d.envs.ranges import ClutterRanges, LightRanges, Randomization, Range, load_randomization
from omni_gen3d.envs.registry import Registry
from omni_gen3d.envs.sample import Sample, Thing
from omni_gen3d.errors import InputError
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.types import Cameras, FreeSpace, GeneratedScene
from omni_gen3d.usd import read_environment

WriteToy = Callable[..., Path]
SIZES = {"crate.ply": (0.4, 0.3, 0.25), "plank.obj": (1.2, 0.15, 0.05)}
VOXEL = 0.05


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Two boxes, one with its origin at a corner; what is no mesh is left alone."""
    folder = tmp_path_factory.mktemp("pool")
    for number, (name, size) in enumerate(SIZES.items()):
        box = trimesh.creation.box(size)
        box.apply_translation([0.1 * number, 0, 0.3])
        box.export(folder / name)
    (folder / "README.txt").write_text("boxes")
    return Pool.read(folder)


@pytest.fixture(scope="module")
def space() -> FreeSpace:
    """A room of 3 m x 4 m x 2 m with its floor at z = 0 and a pillar of 60 cm in its middle."""
    free = np.zeros((64, 84, 44), bool)
    free[2:62, 2:82, 2:42] = True
    free[26:38, 36:48] = False
    return FreeSpace(free, np.array([-1.6, -2.1, -0.1]), VOXEL)


@pytest.fixture
def entry(registry: Registry, write_toy: WriteToy, toy_scene: GeneratedScene, space: FreeSpace) -> Entry:
    """The toy room in a library, with the free space above."""
    assert toy_scene.proxy is not None
    return registry.add(write_toy(proxy=replace(toy_scene.proxy, free_space=space)))


def footprint(thing: Thing, pool: Pool) -> np.ndarray:
    """The four corners of a box seen from above, in their order around it, shape ``(4, 2)``."""
    mesh = pool.place(thing)
    bottom = mesh.vertices[mesh.vertices[:, 2] < mesh.vertices[:, 2].mean()]
    corners = np.unique(bottom[:, :2].round(5), axis=0)
    angle = np.arctan2(*(corners - corners.mean(0)).T[::-1])
    return corners[np.argsort(angle)]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Gap between two convex polygons along the axis that parts them best; negative where they overlap."""
    gaps = []
    for polygon in (a, b):
        edges = np.roll(polygon, -1, 0) - polygon
        for normal in np.stack([edges[:, 1], -edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True):
            gaps.append(max((b @ normal).min() - (a @ normal).max(), (a @ normal).min() - (b @ normal).max()))
    return max(gaps)


def wanted(count: int, rng: np.random.Generator) -> list:
    return [(float(rng.uniform(0.7, 1.3)), float(rng.uniform(-3.1, 3.1)), (0.2, 0.5, 0.9)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_touches_anything(pool: Pool, space: FreeSpace, seed: int) -> None:
    """Things keep a gap to each other, walls, pillar and the place kept clear, and stand on the floor."""
    rng = np.random.default_rng(seed)
    things = strew(pool, space, 0.0, wanted(14, rng), rng, clear=[(0.0, 1.4, 0.5)])
    assert 8 < len(things) <= 14 and {thing.mesh for thing in things} == set(SIZES)
    outlines = [footprint(thing, pool) for thing in things]
    pillar = space.origin[:2] + VOXEL * np.array([[26, 36], [38, 36], [38, 48], [26, 48]])
    for a, b in combinations(outlines, 2):
        assert apart(a, b) > VOXEL / 2
    for thing, outline in zip(things, outlines, strict=True):
        assert apart(outline, pillar) > VOXEL / 2
        assert (np.abs(outline) < [1.5, 2.0]).all()
        heights = pool.place(thing).vertices[:, 2]
        assert heights.min() == pytest.approx(0.002, abs=1e-5) and heights.max() < 2
        circle = np.array([[math.cos(t), 1.4 / 0.5 + math.sin(t)] for t in np.linspace(0, 6.28, 40)]) * 0.5
        assert apart(outline, circle) > -VOXEL


def test_as_many_as_fit(pool: Pool, space: FreeSpace) -> None:
    """A full room leaves things out; a thing as large as the room never fits; the same draws give the same things."""
    rng = np.random.default_rng(0)
    full = strew(pool, space, 0.0, wanted(300, rng), rng)
    assert 20 < len(full) < 300
    again = np.random.default_rng(0)
    assert strew(pool, space, 0.0, wanted(300, again), again) == full
    assert strew(pool, space, 0.0, [(10.0, 0.3, (0.0, 0.0, 0.0))] * 3, rng) == ()
    assert strew(pool, space, 9.0, wanted(3, rng), rng) == ()


RANGES = Randomization(
    clutter=ClutterRanges(count=Range(3, 5), scale=Range(0.5, 0.8), clearance=0.3),
    light=LightRanges(sun=Range(200, 2000), azimuth=Range(-3, 3), warmth=Range(-0.5, 0.5)),
)


def test_a_pool_is_named_in_the_file(entry: Entry, pool: Pool, tmp_path: Path) -> None:
    """A folder beside the YAML file gives what the same pool passed gives; a folder without meshes is named."""
    (tmp_path / "meshes").mkdir()
    for number, (name, size) in enumerate(SIZES.items()):
        box = trimesh.creation.box(size)
        box.apply_translation([0.1 * number, 0, 0.3])
        box.export(tmp_path / "meshes" / name)
    file = tmp_path / "ranges.yaml"
    file.write_text("clutter: {pool: meshes, count: 4}")
    named = load_randomization(file)
    passed = draw(Randomization(clutter=ClutterRanges(count=Range(4, 4))), [entry], seed=5, pool=pool)
    assert draw(named, [entry], seed=5) == passed and passed.clutter
    file.write_text("clutter: {pool: nowhere, count: 4}")
    with pytest.raises(InputError, match="nowhere holds 0 meshes"):
        draw(load_randomization(file), [entry], seed=5)


def test_a_record_holds_it_all(entry: Entry, registry: Registry, write_toy: WriteToy, pool: Pool) -> None:
    """What is drawn comes back through JSON bit for bit; another index draws other things; a pool must be given."""
    samples = [draw(RANGES, [entry], seed=1, index=i, pool=pool) for i in range(6)]
    assert all(Sample.from_json(sample.to_json()) == sample for sample in samples)
    assert samples[0] == draw(RANGES, [entry], seed=1, pool=pool)
    assert len({sample.clutter for sample in samples}) == 6 and max(len(sample.clutter) for sample in samples) >= 3
    plain = draw(replace(RANGES, clutter=None, light=None), [entry], seed=1)
    assert replace(samples[0], clutter=(), light=None) == plain
    assert Sample.from_dict({k: v for k, v in plain.to_dict().items() if k not in ("clutter", "light")}) == plain
    with pytest.raises(InputError, match="no meshes are named"):
        draw(RANGES, [entry], seed=1)
    with pytest.raises(InputError, match="no floor"):
        draw(RANGES, [registry.add(write_toy(seed=1, proxy=None))], seed=1, pool=pool)


def test_it_stands_on_the_stage(entry: Entry, pool: Pool) -> None:
    """Coloured, labelled static colliders where the record says; another sample replaces them, no file changes."""
    before = {file.name: file.read_bytes() for file in entry.folder.iterdir()}
    sample = draw(RANGES, [entry], seed=2, pool=pool)
    assert len(sample.clutter) >= 2
    stage = Usd.Stage.CreateInMemory()
    stage.DefinePrim("/Lab/Env_0").GetReferences().AddReference(str(entry.usd))
    untouched = stage.GetRootLayer().ExportToString()
    apply_to_stage(stage, sample, "/Lab/Env_0", pool)
    for number, thing in enumerate(sample.clutter):
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/Lab/Env_0/Environment/Clutter/thing_{number:02}"))
        np.testing.assert_array_equal(np.array(mesh.GetPointsAttr().Get()), pool.place(thing).vertices)
        assert list(mesh.GetDisplayColorAttr().Get()[0]) == pytest.approx(thing.color)
        prim = mesh.GetPrim()
        assert prim.HasAPI(UsdPhysics.CollisionAPI) and not prim.HasAPI(UsdPhysics.RigidBodyAPI)
        assert list(UsdSemantics.LabelsAPI.Get(prim, "class").GetLabelsAttr().Get()) == ["object"]
        assert UsdGeom.Imageable(prim).ComputePurpose() == UsdGeom.Tokens.default_
    assert stage.GetPrimAtPath("/Lab/Env_0/Environment/Light/Sun")
    apply_to_stage(stage, replace(sample, clutter=sample.clutter[:1], light=None), "/Lab/Env_0", pool)
    kept = [prim for prim in stage.Traverse() if prim.GetName().startswith("thing_")]
    assert len(kept) == 1 and not stage.GetPrimAtPath("/Lab/Env_0/Environment/Light")
    apply_to_stage(stage, replace(sample, clutter=(), light=None), "/Lab/Env_0")
    assert not stage.GetPrimAtPath("/Lab/Env_0/Environment/Clutter")
    assert stage.GetRootLayer().ExportToString() == untouched
    assert {file.name: file.read_bytes() for file in entry.folder.iterdir()} == before
    with pytest.raises(InputError, match="give the pool"):
        apply_to_stage(stage, sample, "/Lab/Env_0")


def test_a_replayed_record_shows_the_same_pixels(entry: Entry, pool: Pool) -> None:
    """Through the render delegate, on a new stage, from JSON alone: byte for byte; others show something else."""
    ranges = replace(RANGES, appearance=replace(RANGES.appearance, exposure=Range(-1, 1), hue=Range(-1, 1)))

    def frames(records: list[str], cameras: Cameras) -> list[bytes]:
        stage = Usd.Stage.Open(str(entry.usd))
        shown = []
        with SplatRenderDelegate(stage, backend="cpu") as delegate:
            for record in records:
                apply_to_stage(stage, Sample.from_json(record), pool=pool)
                views = delegate.render(cameras, aovs=("color", "depth"))
                shown.append(b"".join(views.aovs[name].tobytes() for name in ("color", "depth")))
        return shown

    cameras = replace(read_environment(entry.folder).cameras[[0]], width=64, height=48)
    records = [draw(ranges, [entry], seed=3, index=i, pool=pool).to_json() for i in range(3)]
    assert records == [draw(ranges, [entry], seed=3, index=i, pool=pool).to_json() for i in range(3)]
    first = frames(records, cameras)
    assert len(set(first)) == 3
    assert frames(records[::-1], cameras)[::-1] == first


def test_light_falls_where_it_is_drawn(entry: Entry, pool: Pool) -> None:
    """The sun over a thing lights its top; from below the horizon it leaves it to the sky."""
    thing = Thing("crate.ply", pool.meshes[0].sha256, (0.0, 0.0, 0.0), 0.0, 1.0, (1.0, 1.0, 1.0))
    stage = Usd.Stage.Open(str(entry.usd))
    stage.GetPrimAtPath("/World/Environment/Splats").SetActive(False)
    pose = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]])[None]
    lens = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]])[None]
    sample = draw(replace(RANGES, clutter=None, spawn=False), [entry], seed=1)
    assert sample.light is not None
    shades = []
    with SplatRenderDelegate(stage, backend="cpu") as delegate:
        for elevation in (1.5, 0.5, -0.5):
            light = replace(sample.light, sky=0.1, sun=0.8, elevation=elevation, warmth=0.0)
            apply_to_stage(stage, replace(sample, clutter=(thing,), light=light), pool=pool)
            shades.append(float(delegate.render(Cameras(pose, lens, 32, 32)).aovs["color"][0, 16, 16, 0]))
    expected = [0.1 + 0.8 * max(math.sin(elevation), 0) for elevation in (1.5, 0.5, -0.5)]
    assert shades == pytest.approx(expected, abs=0.02)


def test_pools_and_records_of_others(pool: Pool, tmp_path: Path) -> None:
    """A folder without meshes, a mesh that changed and one that is not there are one error each."""
    with pytest.raises(InputError, match="holds 0 meshes"):
        Pool.read(tmp_path)
    with pytest.raises(InputError, match="holds 0 meshes"):
        Pool.read(tmp_path / "nowhere")
    thing = Thing("crate.ply", "0" * 64, (0.0, 0.0, 0.0), 0.0, 1.0, (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"another mesh crate\.ply"):
        pool.place(thing)
    with pytest.raises(InputError, match=r"no mesh sofa\.ply"):
        pool.place(replace(thing, mesh="sofa.ply"))
    with pytest.raises(InputError, match="count"):
        ClutterRanges(count=Range(0, 65))
    with pytest.raises(InputError, match="brightness"):
        ClutterRanges(count=Range(1, 1), brightness=Range(0, 2))
    with pytest.raises(InputError, match="elevation"):
        LightRanges(elevation=Range(0, 2))
