"""A toy scene that several suites write to disk, read, break and drop bodies into."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from omni_gen3d.geometry import intrinsics_from_fov, look_at, quat_to_matrix, transform_gaussians
from omni_gen3d.types import (
    Cameras,
    CollisionProxy,
    DynamicScene,
    FreeSpace,
    Gaussians,
    GaussianSequence,
    GeneratedScene,
    MovingPart,
    PartLabel,
    Provenance,
    ProxyPart,
    SpawnPose,
    TriMesh,
)

if TYPE_CHECKING:
    from diffusers import AutoencoderKLCosmos

    from omni_gen3d.finishing import GeneratedEnvironment

_BOX_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float32)
_BOX_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
_BOX_FACES = _BOX_QUADS[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)


def box_part(
    name: str, label: PartLabel, low: tuple[float, float, float], high: tuple[float, float, float]
) -> ProxyPart:
    """An axis-aligned box, faces counter-clockwise seen from outside."""
    corners = np.array(low, np.float32) + _BOX_CORNERS * (np.array(high, np.float32) - np.array(low, np.float32))
    return ProxyPart(name, label, TriMesh(corners, _BOX_FACES))


def toy_gaussians(count: int, degree: int, generator: torch.Generator) -> Gaussians:
    """Random splats in a 4 m x 4 m x 2 m room."""
    quats = torch.randn(count, 4, generator=generator)
    return Gaussians(
        means=torch.rand(count, 3, generator=generator) * torch.tensor([4.0, 4.0, 2.0]) - torch.tensor([2.0, 2.0, 0.0]),
        quats=quats / quats.norm(dim=1, keepdim=True),
        scales=torch.rand(count, 3, generator=generator) * 0.05 + 0.005,
        opacities=torch.rand(count, generator=generator),
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=generator),
    )


def toy_cameras(count: int) -> Cameras:
    """Cameras on an arc around the middle of the room, each with a focal length and principal point of its own."""
    angle = torch.linspace(0, 1, count)
    eyes = torch.stack([1.5 * torch.cos(angle), 1.5 * torch.sin(angle), 0.5 + 0.5 * angle], dim=-1)
    intrinsics = intrinsics_from_fov(math.radians(60), 320, 176).repeat(count, 1, 1)
    intrinsics[:, 0, 0] += torch.arange(count)
    intrinsics[:, :2, 2] += torch.arange(count)[:, None] * torch.tensor([0.5, -0.25])
    return Cameras(look_at(eyes, torch.tensor([0.0, 0.0, 0.3]).expand(count, 3)), intrinsics, width=320, height=176)


@dataclass(frozen=True)
class ToyScene(GeneratedScene):
    """A scene that stands still and has a collider."""

    gaussians: Gaussians
    proxy: CollisionProxy


@pytest.fixture
def toy_scene() -> ToyScene:
    """A room of 4 m x 4 m with its floor at z = 0, two walls, and a table of 1 m x 1 m x 0.5 m in the +x +y corner."""
    generator = torch.Generator().manual_seed(0)
    free = torch.rand(20, 20, 10, generator=generator).numpy() > 0.5
    return ToyScene(
        gaussians=toy_gaussians(50, degree=1, generator=generator),
        cameras=toy_cameras(7),
        proxy=CollisionProxy(
            parts=(
                box_part("floor", "floor", (-2, -2, -0.2), (2, 2, 0)),
                box_part("wall_west", "wall", (-2.2, -2, 0), (-2, 2, 2)),
                box_part("wall_east", "wall", (2, -2, 0), (2.2, 2, 2)),
                box_part("table", "object", (0.5, 0.5, 0), (1.5, 1.5, 0.5)),
            ),
            free_space=FreeSpace(free, np.array([-2.0, -2.0, 0.0]), voxel_size=0.2),
            spawn_poses=(SpawnPose((0.0, 0.0, 0.0), 0.5), SpawnPose((-1.0, -1.0, 0.0), -2.0)),
            scores={"faces": 48, "floor_height_m": 0.0, "watertight": True, "depth_agreement_mean_mm": None},
            warnings=("The ceiling was not seen.",),
        ),
        preview=(torch.rand(18, 32, 3, generator=generator) * 255).to(torch.uint8).numpy(),
        provenance=Provenance(
            kind="static",
            prompt="a toy: room\nwith a table",
            input_sha256=None,
            seed=3,
            model="mini",
            model_sha256="0" * 64,
            notes=("field of view estimated: 60 degrees",),
        ),
        timings_s={"decode": 0.25},
    )


def _write_ply(gaussians: Gaussians, path: Path, *, dtype: str = "<f4", shuffled: bool = False, extra: bool = False):
    """A 3DGS file as its format is described: log scales, logits, harmonics channel by channel.

    ``dtype`` is a numpy code; ``shuffled`` reverses the order of the properties; ``extra`` adds normals, a byte and a
    second element that nobody asked for.
    """
    n = len(gaussians)
    columns: dict[str, np.ndarray] = {}
    for axis in range(3):
        columns["xyz"[axis]] = gaussians.means[:, axis].numpy()
    for channel in range(3):
        columns[f"f_dc_{channel}"] = gaussians.sh[:, 0, channel].numpy()
    per_channel = gaussians.sh.shape[1] - 1
    for channel in range(3):
        for k in range(per_channel):
            columns[f"f_rest_{channel * per_channel + k}"] = gaussians.sh[:, 1 + k, channel].numpy()
    columns["opacity"] = torch.logit(gaussians.opacities.double()).numpy()
    for axis in range(3):
        columns[f"scale_{axis}"] = gaussians.scales[:, axis].double().log().numpy()
    for axis in range(4):
        columns[f"rot_{axis}"] = 2.5 * gaussians.quats[:, axis].numpy()
    types = dict.fromkeys(columns, dtype)
    if extra:
        columns = {"nx": np.zeros(n), "class": np.arange(n) % 7, **columns, "ny": np.ones(n)}
        types = {**types, "nx": dtype, "class": dtype[0] + "u1", "ny": dtype}
    names = list(columns)[::-1] if shuffled else list(columns)
    table = np.empty(n, np.dtype([(name, types[name]) for name in names]))
    for name in names:
        table[name] = columns[name]
    words = {"f4": "float", "f8": "double", "u1": "uchar"}
    order = "binary_little_endian" if dtype[0] == "<" else "binary_big_endian"
    header = ["ply", f"format {order} 1.0", "comment made by a test", f"element vertex {n}"]
    header += [f"property {words[types[name][1:]]} {name}" for name in names]
    header += ["element camera 1", "property list uchar float pose"] if extra else []
    path.write_bytes("\n".join([*header, "end_header", ""]).encode() + table.tobytes() + (b"\0" if extra else b""))
    return path


@pytest.fixture(scope="session")
def write_ply() -> Callable[..., Path]:
    return _write_ply


@pytest.fixture
def interpreted_gsply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run gsply's kernels as plain Python: compiling them takes a minute, and they get a few hundred Gaussians."""
    import gsply.reader
    import gsply.spz
    import gsply.writer

    for module in (gsply.reader, gsply.spz, gsply.writer):
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)


@pytest.fixture
def toy_scene_in_pieces(toy_scene: ToyScene) -> ToyScene:
    """The same room, whose table may be two convex pieces."""
    pieces = (
        box_part("table_0", "object", (0.5, 0.5, 0), (1.0, 1.5, 0.5)),
        box_part("table_1", "object", (1.0, 0.5, 0), (1.5, 1.5, 0.5)),
    )
    return replace(toy_scene, proxy=replace(toy_scene.proxy, convex_parts=pieces))


@pytest.fixture
def moving_gaussians(toy_scene: ToyScene) -> GaussianSequence:
    """The toy's splats at four times, ten a second, turned and shifted; nothing else changes."""
    still = toy_scene.gaussians
    frames = []
    for i in range(4):
        quats = still.quats + 0.1 * i
        quats = quats / quats.norm(dim=1, keepdim=True) if i else still.quats
        frames.append(replace(still, means=still.means + torch.tensor([0.1 * i, 0.0, 0.0]), quats=quats))
    return GaussianSequence(tuple(frames), frames_per_second=10.0)


@pytest.fixture
def wagon_scene(toy_scene: ToyScene) -> GeneratedScene:
    """The toy with a box that drives two metres along y and turns, a ghost without a body that is there at times 1 and
    2, and a rest that is empty at time 2; four times, ten a second."""
    generator = torch.Generator().manual_seed(2)
    box = box_part("box", "object", (-0.2, -0.2, -0.2), (0.2, 0.2, 0.2)).mesh
    thing = toy_gaussians(30, 1, generator)
    small = replace(thing, means=0.1 * thing.means)
    to_world = np.tile(np.eye(4), (4, 1, 1))
    for i in range(4):
        cos, sin = math.cos(0.3 * i), math.sin(0.3 * i)
        to_world[i, :2, :2] = [[cos, -sin], [sin, cos]]
        to_world[i, :3, 3] = [0.0, -1.0 + 0.66 * i, 0.21]
    still = np.tile(np.eye(4), (4, 1, 1))
    rest = tuple(toy_gaussians(count, 1, generator) for count in (5, 9, 0, 7))
    return replace(
        toy_scene,
        gaussians=DynamicScene(
            static=toy_scene.gaussians,
            parts=(
                MovingPart("wagon", small, to_world, np.ones(4, np.bool_), (box,)),
                MovingPart("ghost", small[:9], still, np.array([False, True, True, False]), ()),
            ),
            residual=rest,
            frames_per_second=10.0,
            num_frames=4,
        ),
        provenance=replace(toy_scene.provenance, kind="dynamic"),
        film=np.stack([toy_scene.preview] * 4),
    )


@pytest.fixture
def growing_gaussians() -> GaussianSequence:
    """Four frames of 10, 15, 20 and 25 splats, ten a second."""
    generator = torch.Generator().manual_seed(1)
    return GaussianSequence(tuple(toy_gaussians(10 + 5 * i, 1, generator) for i in range(4)), frames_per_second=10.0)


@pytest.fixture(scope="session")
def garage_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real colour photograph: the left picture of scikit-image's stereo motorcycle, as a file."""
    import skimage.data
    from PIL import Image

    path = tmp_path_factory.mktemp("picture") / "garage.png"
    Image.fromarray(skimage.data.stereo_motorcycle()[0]).save(path)
    return path


@pytest.fixture(scope="session")
def environment_from_text(tmp_path_factory: pytest.TempPathFactory) -> GeneratedEnvironment:
    """What the shipped model makes of a sentence, through the whole pipeline."""
    from omni_gen3d import generate

    out = tmp_path_factory.mktemp("generated") / "warehouse"
    return generate("a small warehouse with pallets and a concrete floor", out=out, seed=1, device="cpu")


@pytest.fixture(scope="session")
def environment_from_picture(tmp_path_factory: pytest.TempPathFactory, garage_picture: Path) -> GeneratedEnvironment:
    """What the shipped model makes of a real photograph of known field of view."""
    from omni_gen3d import generate

    out = tmp_path_factory.mktemp("generated") / "garage"
    return generate(image=garage_picture, fov_deg=40.85, out=out, seed=1, device="cpu")


@pytest.fixture(scope="session")
def environment_by_converting(
    tmp_path_factory: pytest.TempPathFactory, write_ply: Callable[..., Path]
) -> GeneratedEnvironment:
    """What converting makes of a furnished warehouse with floaters, noise and holes, in a tilted y-down file."""
    from omni_gen3d import convert
    from omni_gen3d.bench.rooms import rooms

    folder = tmp_path_factory.mktemp("converted")
    y_down = quat_to_matrix(torch.nn.functional.normalize(torch.tensor([1.0, 1.0, 0.1, 0.05]), dim=0))
    warehouse = rooms()[1].gaussians(60_000, seed=1)
    tilted = transform_gaussians(warehouse, y_down, torch.tensor([0.3, -0.2, 1.0]), 0.5)
    file = write_ply(tilted, folder / "warehouse.ply")
    return convert(file, folder / "warehouse", scale=2.0, seed=1)


@pytest.fixture(scope="session")
def save_depth_model() -> Callable[..., None]:
    """A function that writes a tiny random depth model, Depth Anything, and its processor into a folder."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    def save(folder: Path, kind: str = "metric") -> None:
        torch.manual_seed(0)
        backbone = Dinov2Config(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=28,
            patch_size=14,
            out_indices=[1, 2, 3, 4],  # pyright: ignore[reportCallIssue]
            reshape_hidden_states=False,
        )
        model = DepthAnythingForDepthEstimation(
            DepthAnythingConfig(
                backbone_config=backbone,
                reassemble_hidden_size=16,
                neck_hidden_sizes=[8, 8, 8, 8],
                fusion_hidden_size=8,
                head_hidden_size=8,
                depth_estimation_type=kind,
                max_depth=20,
            )
        )
        for parameter in model.parameters():  # as they start, every depth is the same
            torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder)
        processor = {
            "image_processor_type": "DPTImageProcessor",
            "do_resize": True,
            "size": {"height": 28, "width": 28},
            "keep_aspect_ratio": True,
            "ensure_multiple_of": 14,
            "do_rescale": True,
            "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))

    return save


@dataclass(frozen=True)
class FilmedRoom:
    """A textured room as a camera sees it on its way, exactly: sRGB uint8 ``(N, H, W, 3)``, depth along z [m]
    ``(N, H, W)``, poses relative to the first camera ``(N, 4, 4)`` and intrinsics ``(3, 3)``."""

    frames: np.ndarray
    depth: torch.Tensor
    camera_to_first: np.ndarray
    intrinsics: torch.Tensor


@pytest.fixture(scope="session")
def filmed_room() -> Callable[[int, float], FilmedRoom]:
    """A camera of 67 degrees goes ``step`` [m] sideways a time, a little ahead, and turns."""

    def filmed(count: int, step: float) -> FilmedRoom:
        lens = intrinsics_from_fov(math.radians(67), 320, 176).float()
        path = _walked_path(count, step)
        made = [_room_picture(pose, lens.numpy(), 176, 320) for pose in path]
        depth = torch.from_numpy(np.stack([depth for _, depth in made])).float()
        return FilmedRoom(np.stack([picture for picture, _ in made]), depth, path, lens)

    return filmed


# x right, y down, z ahead of the first camera; floor, ceiling, walls [m].
_ROOM_PLANES = ((0, -2.2), (0, 2.4), (1, -1.4), (1, 1.2), (2, -1.5), (2, 4.5))


def _room_picture(
    camera_to_first: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """sRGB uint8 ``(H, W, 3)`` and depth along z [m] ``(H, W)`` from a camera inside the room."""
    v, u = np.mgrid[:height, :width] + 0.5
    rays = np.stack(
        [(u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1], u * 0 + 1], -1
    )
    along, eye = rays @ camera_to_first[:3, :3].T, camera_to_first[:3, 3]
    depth, which = np.full((height, width), np.inf), np.zeros((height, width), int)
    for index, (axis, place) in enumerate(_ROOM_PLANES):
        with np.errstate(divide="ignore", invalid="ignore"):
            reached = (place - eye[axis]) / along[..., axis]
        nearer = (reached > 1e-6) & (reached < depth)
        depth, which = np.where(nearer, reached, depth), np.where(nearer, index, which)
    points = eye + along * depth[..., None]
    waves = np.stack([_waves(points * 3.0 + 7.0 * which[..., None] + 40.0 * channel) for channel in range(3)], -1)
    shade = np.array([0.75, 0.8, 0.55, 0.95, 0.7, 0.85])[which][..., None]
    return (255 * np.clip(shade * (0.25 + 0.7 * waves), 0, 1)).astype(np.uint8), depth


def _waves(points: np.ndarray) -> np.ndarray:
    """Smooth noise in [0, 1] out of waves of several lengths."""
    rng = np.random.default_rng(3)
    total = np.zeros(points.shape[:-1])
    for scale in (1.0, 2.0, 4.0, 8.0):
        for _ in range(3):
            direction = rng.normal(size=3)
            direction *= scale / np.linalg.norm(direction)
            total += np.sin(points @ direction + rng.uniform(0, 2 * math.pi)) / (2 * scale**0.5)
    return 0.5 + 0.5 * np.tanh(total / 1.5)


def _walked_path(count: int, step: float, turn_deg: float = 0.6) -> np.ndarray:
    """A camera that goes sideways and ahead while it turns, ``(N, 4, 4)``."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        angle = math.radians(turn_deg) * i
        poses[i, :3, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
        poses[i, :3, 3] = [step * i, 0, 0.4 * step * i]
    return poses


@pytest.fixture(scope="session")
def random_tokenizer() -> Callable[..., AutoencoderKLCosmos]:
    """A function that makes the shipped tokenizer's layout with few channels; keywords as of the class."""
    from diffusers import AutoencoderKLCosmos

    layout: dict[str, Any] = {
        "latent_channels": 16,
        "encoder_block_out_channels": (8, 16, 16, 24),
        "decode_block_out_channels": (16, 16, 24, 24),
        "attention_resolutions": (32,),
        "resolution": 128,
        "num_layers": 1,
        "patch_size": 4,
        "spatial_compression_ratio": 8,
        "temporal_compression_ratio": 8,
    }
    return lambda **other: AutoencoderKLCosmos(**(layout | other))


@pytest.fixture(scope="session")
def toy_weights(tmp_path_factory: pytest.TempPathFactory, random_tokenizer: Callable[..., AutoencoderKLCosmos]) -> Path:
    """A folder with random networks of the five classes, as small as they come; latents of two frames."""
    from diffusers import CosmosTransformer3DModel

    from omni_gen3d.checkpoints import save_network
    from omni_gen3d.decoder.mini import MiniDecoder
    from omni_gen3d.motion.body_network import BodyNetwork
    from omni_gen3d.video.depth import DepthNetwork
    from omni_gen3d.video.diffusion import INPUT_CHANNELS

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    tokenizer = random_tokenizer(encoder_block_out_channels=(8, 8, 8, 8), decode_block_out_channels=(8, 8, 8, 8))
    diffusion = CosmosTransformer3DModel(
        in_channels=INPUT_CHANNELS,
        out_channels=16,
        num_attention_heads=1,
        attention_head_dim=64,
        num_layers=1,
        mlp_ratio=1.0,
        text_embed_dim=384,
        adaln_lora_dim=8,
        max_size=(16, 44, 80),
        patch_size=(1, 2, 2),
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    )
    depth = DepthNetwork(channels=(32, 32, 32, 32), num_attention_layers=1)
    decoder = MiniDecoder(channels=32, token_channels=64, num_layers=1, latent_frames=2, token_rows=1, token_columns=2)
    bodies = BodyNetwork(channels=(8, 8, 8, 32), num_attention_layers=1)
    networks = {"tokenizer": tokenizer, "depth": depth, "diffusion": diffusion, "decoder": decoder, "bodies": bodies}
    for name, network in networks.items():
        save_network(network, folder / name, "float16")
    return folder
