"""Rooms of real objects: rays against a slow reference, drawn repeatably, seen consistently, told in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.training.object_caster import ObjectCaster, Placed
from omni_gen3d.training.object_layout import furnish, layout_key, sample_rooms
from omni_gen3d.training.object_pictures import describe_objects, sample_object_clips, sample_object_pictures
from omni_gen3d.training.object_set import FILE_NAME, ObjectSet, load_objects, save_objects
from omni_gen3d.training.object_shapes import SHAPES, with_shapes
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.video.cache3d import warp

HEIGHT, WIDTH = 24, 40


@pytest.fixture(scope="module")
def caster(toy_objects: ObjectSet) -> ObjectCaster:
    return ObjectCaster(with_shapes(toy_objects), torch.device("cpu"))


def _corners(objects: ObjectSet, placed: Placed) -> np.ndarray:
    """All placed faces of the first world, one after the other, shape ``(F, 3, 3)``."""
    rows = []
    for model, to_world in zip(placed.model[0].tolist(), placed.to_world[0].double().numpy(), strict=True):
        if model >= 0:
            faces = objects.faces[objects.first_face[model] : objects.first_face[model + 1]]
            points = objects.positions[objects.first_vertex[model] + faces].astype(float)
            rows.append(points @ to_world[:, :3].T + to_world[:, 3])
    return np.concatenate(rows)


def _slow_distance(corners: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> float:
    """Nearest hit of one ray: a 3x3 linear system for every face."""
    a, b, c = corners.transpose(1, 0, 2)
    systems = np.stack([b - a, c - a, np.broadcast_to(-direction, a.shape)], 2)
    solvable = np.abs(np.linalg.det(systems)) > 1e-14
    u, v, t = np.linalg.solve(systems[solvable], (origin - a[solvable])[..., None])[..., 0].T
    return min(t[(u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)], default=np.inf)


def test_rays_end_where_the_slow_reference_says(caster: ObjectCaster) -> None:
    """Rays towards places in a furnished room end on the same surface; only rays along an edge may differ."""
    generator = world_generator(3, "train", "cpu")
    placed = furnish(sample_rooms(1, caster, generator), caster, generator)
    rng = np.random.default_rng(1)
    origins = np.tile([0.1, 0.2, 1.5], (60, 1)) + rng.uniform(-0.3, 0.3, (60, 3))
    targets = placed.to_world[0, placed.model[0] >= 0][:, :, 3].double().numpy()
    directions = targets[rng.integers(len(targets), size=60)] + rng.normal(scale=0.1, size=(60, 3)) - origins
    starts, ways = (torch.from_numpy(rows)[None].float() for rows in (origins, directions))
    hits = caster.cast(placed, starts, ways, torch.full((1, 60), 50.0))
    found = hits.distance[0].double().numpy()
    corners = _corners(caster.objects, placed)
    expected = [min(_slow_distance(corners, o, d), 50.0) for o, d in zip(origins, directions, strict=True)]
    assert sum(e < 50 for e in expected) > 30
    assert np.isclose(found, expected, rtol=1e-3, atol=1e-3).mean() > 0.96
    assert ((hits.place[0] >= 0).numpy() == (found < 50)).all()


def test_any_hit_is_found_where_there_is_one(caster: ObjectCaster) -> None:
    """Shadow rays meet something exactly where the nearest hit exists, and dead rays are not cast."""
    generator = world_generator(4, "train", "cpu")
    placed = furnish(sample_rooms(2, caster, generator), caster, generator)
    origins = torch.rand(2, 80, 3, generator=generator) * 2 - torch.tensor([1.0, 1, 0])
    directions = torch.randn(2, 80, 3, generator=generator)
    limit = torch.where(torch.arange(80) % 5 == 0, 0.0, 9.0).expand(2, -1)
    nearest = caster.cast(placed, origins, directions, limit)
    any_of_them = caster.cast(placed, origins, directions, limit, any_hit=True)
    assert torch.equal(nearest.place >= 0, any_of_them.place >= 0)
    assert (nearest.place[:, ::5] == -1).all() and (nearest.place >= 0).any()


def test_the_same_seed_gives_the_same_bytes(caster: ObjectCaster) -> None:
    """Two generators of one seed lead to equal pictures and depths; another seed does not."""
    first, again, other = (
        sample_object_pictures(2, HEIGHT, WIDTH, caster, world_generator(s, "train", "cpu")) for s in (5, 5, 6)
    )
    assert torch.equal(first.rgb, again.rgb) and torch.equal(first.depth, again.depth)
    assert not torch.equal(first.rgb, other.rgb)


def test_pictures_show_what_the_depth_says(caster: ObjectCaster) -> None:
    """Depths are finite and positive; unprojected pixels lie in the room, and those of floors on z = 0."""
    seen = sample_object_pictures(6, HEIGHT, WIDTH, caster, world_generator(7, "train", "cpu"))
    assert seen.rgb.shape == (6, 3, HEIGHT, WIDTH) and 0 <= seen.rgb.min() and seen.rgb.max() <= 1
    assert seen.rgb.std() > 0.1 and (seen.place >= 0).float().mean() > 0.1
    assert seen.depth.isfinite().all() and seen.depth.min() > 0
    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    focal = seen.intrinsics[:, 0, 0, None, None]
    rays = torch.stack([(u - WIDTH / 2) / focal, (v - HEIGHT / 2) / focal, torch.ones(6, HEIGHT, WIDTH)], -1)
    points = (rays * seen.depth[..., None]).flatten(1, 2) @ seen.camera_to_world[:, :3, :3].transpose(1, 2)
    points = points + seen.camera_to_world[:, None, :3, 3]
    known = (seen.depth < 50).flatten(1)
    assert (points[..., 2][known] > -1e-2).all()
    room = (points[..., :2].abs() <= seen.rooms.half_extents[:, None] + 1e-2).all(-1) | (seen.place.flatten(1) >= 0)
    assert room[known].all()


def test_clips_move_through_what_the_first_frame_shows(caster: ObjectCaster) -> None:
    """A clip begins with its picture and moves; what a later frame still sees lies where the first frame put it."""
    clips, first = sample_object_clips(3, HEIGHT, WIDTH, 9, caster, world_generator(9, "train", "cpu"))
    assert clips.rgb.shape == (3, 3, 9, HEIGHT, WIDTH) and torch.equal(clips.rgb[:, :, 0], first.rgb)
    assert torch.equal(clips.depth[:, 0], first.depth)
    assert (clips.camera_to_first[..., :3, 3].norm(dim=-1).amax(1) > 0.02).all()
    seen = warp(first.rgb * 2 - 1, first.depth, clips.intrinsics, clips.camera_to_first[:, -1:])
    covered = seen.mask[:, 0, 0] > 0.5
    error = (seen.depth[:, 0, 0] - clips.depth[:, -1]).abs() / clips.depth[:, -1]
    assert covered.float().mean() > 0.3 and (error[covered] < 0.05).float().mean() > 0.8


def test_layouts_are_distinct(caster: ObjectCaster) -> None:
    """Of 2,000 no two are alike, to 1 cm; if there were only 200,000, that would happen once in 22,000 times."""
    generator = world_generator(0, "train", "cpu")
    keys: set[bytes] = set()
    for _ in range(20):
        rooms = sample_rooms(100, caster, generator)
        keys.update(layout_key(rooms, furnish(rooms, caster, generator)))
    assert len(keys) == 2000


def test_captions_name_what_is_seen(caster: ObjectCaster) -> None:
    """A caption tells the room, what covers pixels and the light, and never an object that is not seen."""
    seen = sample_object_pictures(8, HEIGHT, WIDTH, caster, world_generator(11, "train", "cpu"))
    captions = describe_objects(seen, caster, np.random.default_rng(0))
    assert len(set(captions)) == 8
    for b, caption in enumerate(captions):
        words = caption.lower()
        assert any(word in words for word in ("room", "yard", "hall")), caption
        assert "light" in words or "lit" in words or "dim" in words, caption
        shares = torch.bincount(seen.place[b].flatten() + 1, minlength=1)
        cones = [k for k in range(len(shares) - 1) if shares[k + 1] and seen.placed.model[b, k] == len(SHAPES)]
        assert ("traffic cone" in words) <= bool(cones), caption


def test_a_set_survives_its_file(toy_objects: ObjectSet, tmp_path: Path) -> None:
    """What is read is what was written, to the precision of the file; a second write gives the same bytes."""
    path = save_objects(toy_objects, tmp_path)
    read = load_objects(tmp_path)
    assert read.names == toy_objects.names and read.surfaces == toy_objects.surfaces
    assert np.array_equal(read.faces, toy_objects.faces) and np.array_equal(
        read.material_texture, toy_objects.material_texture
    )
    assert np.allclose(read.positions, toy_objects.positions, atol=1e-3)
    assert np.allclose(read.material_color, toy_objects.material_color, atol=1 / 255)
    content = path.read_bytes()
    assert save_objects(toy_objects, tmp_path).read_bytes() == content


@pytest.mark.parametrize("fault", ["missing", "cut", "index"])
def test_a_broken_set_is_refused(toy_objects: ObjectSet, tmp_path: Path, fault: str) -> None:
    """The error names the file and the command that makes it again."""
    if fault == "index":
        save_objects(replace(toy_objects, face_material=np.full(12, 9)), tmp_path)
    elif fault == "cut":
        path = save_objects(toy_objects, tmp_path)
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=f"{FILE_NAME}.*fetch"):
        load_objects(tmp_path)
