"""Every convention of the package, held by a property."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch

from omni_gen3d import geometry
from omni_gen3d.errors import InputError
from omni_gen3d.types import Cameras, Gaussians


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def random_rotations(count: int, generator: torch.Generator) -> torch.Tensor:
    matrices = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)).Q
    return matrices * matrices.det()[:, None, None]


def random_gaussians(count: int, coefficients: int, generator: torch.Generator) -> Gaussians:
    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Gaussians(
        means=draw(count, 3),
        quats=torch.nn.functional.normalize(draw(count, 4), dim=-1),
        scales=draw(count, 3).exp(),
        opacities=draw(count).sigmoid(),
        sh=draw(count, coefficients, 3),
    )


def covariances(gaussians: Gaussians) -> torch.Tensor:
    root = geometry.quat_to_matrix(gaussians.quats) * gaussians.scales[:, None]
    return root @ root.mT


def test_quaternions_put_the_real_part_first() -> None:
    """A quarter turn about +Z is (cos 45, 0, 0, sin 45) and takes +X to +Y."""
    half = math.sqrt(0.5)
    matrix = geometry.quat_to_matrix(torch.tensor([half, 0.0, 0.0, half]))
    assert torch.allclose(matrix @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_quaternion_and_matrix_are_inverse(generator: torch.Generator) -> None:
    """Matrices survive the way through quaternions, half turns included."""
    half_turns = torch.diag_embed(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]]).double())
    rotations = torch.cat([random_rotations(200, generator), half_turns])
    quats = geometry.matrix_to_quat(rotations)
    assert (quats[:, 0] >= 0).all()
    assert torch.allclose(geometry.quat_to_matrix(quats), rotations, atol=1e-12)


def test_quaternion_product_composes_rotations(generator: torch.Generator) -> None:
    """The product a b turns by b first and by a second."""
    a, b = torch.randn(2, 50, 4, generator=generator, dtype=torch.float64)
    composed = geometry.quat_to_matrix(geometry.quat_multiply(a, b))
    assert torch.allclose(composed, geometry.quat_to_matrix(a) @ geometry.quat_to_matrix(b), atol=1e-12)


def test_quaternion_orders_convert_both_ways() -> None:
    """wxyz to xyzw moves the first number last, for tensors and arrays."""
    assert geometry.wxyz_to_xyzw(torch.tensor([1, 2, 3, 4])).tolist() == [2, 3, 4, 1]
    assert geometry.xyzw_to_wxyz(np.array([[2, 3, 4, 1]])).tolist() == [[1, 2, 3, 4]]


def test_look_at_centres_the_target_with_up_upwards(generator: torch.Generator) -> None:
    """The target lies on the optical axis, a point above it higher in the picture, and the eye at the origin."""
    eye, target = torch.randn(2, 20, 3, generator=generator, dtype=torch.float64)
    world_to_camera = geometry.look_at(eye, target)

    def seen(points: torch.Tensor) -> torch.Tensor:
        return (world_to_camera @ torch.cat([points, torch.ones(20, 1)], 1)[..., None])[:, :3, 0]

    distance = (target - eye).norm(dim=1)
    assert torch.allclose(seen(eye), torch.zeros(20, 3).double(), atol=1e-12)
    assert torch.allclose(seen(target), torch.nn.functional.pad(distance[:, None], (2, 0)), atol=1e-12)
    above = seen(target + torch.tensor([0.0, 0.0, 0.1]))
    assert (above[:, 1] < 0).all() and torch.allclose(above[:, 0], torch.zeros(20).double(), atol=1e-12)
    assert torch.allclose(world_to_camera[:, :3, :3].det(), torch.ones(20).double())


def test_look_at_refuses_a_view_along_up() -> None:
    """Straight down along up, and a target on the eye, leave the picture's upright undefined."""
    for target in (torch.tensor([0.0, 0.0, -1.0]), torch.zeros(3)):
        with pytest.raises(InputError, match="parallel to up"):
            geometry.look_at(torch.zeros(3), target)


def test_field_of_view_and_focal_length_agree() -> None:
    """90 degrees across 100 pixels is a focal length of 50 pixels, and back."""
    intrinsics = geometry.intrinsics_from_fov(math.pi / 2, 100, 60)
    assert torch.allclose(intrinsics, geometry.intrinsics_from_focal(50.0, 100, 60))
    assert float(geometry.fov_x(intrinsics, 100)) == pytest.approx(math.pi / 2)
    with pytest.raises(InputError, match="200 degrees"):
        geometry.intrinsics_from_fov(math.radians(200), 100, 60)
    with pytest.raises(InputError, match="-1 pixels"):
        geometry.intrinsics_from_focal(-1, 100, 60)


def test_pixel_rays_pass_through_pixel_centres() -> None:
    """The ray of pixel (row i, column j) projects to (j + 0.5, i + 0.5)."""
    intrinsics = torch.tensor([[80.0, 0, 21.5], [0, 70.0, 9.25], [0, 0, 1]], dtype=torch.float64)
    projected = geometry.pixel_rays(intrinsics, 20, 30) @ intrinsics.T
    assert projected[3, 7].tolist() == pytest.approx([7.5, 3.5, 1.0])
    assert projected[19, 29].tolist() == pytest.approx([29.5, 19.5, 1.0])


def test_unprojected_points_project_back(generator: torch.Generator) -> None:
    """Points lifted from a depth map return to their pixel centres and their depth."""
    eye = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    intrinsics = torch.tensor([[20.0, 0, 5.0], [0, 22.0, 3.0], [0, 0, 1]], dtype=torch.float64).expand(3, 3, 3)
    cameras = Cameras(geometry.look_at(eye, torch.zeros(3).double()), intrinsics, width=8, height=6)
    depth = torch.rand(3, 6, 8, generator=generator, dtype=torch.float64) + 0.5
    points = geometry.unproject(depth, cameras).reshape(3, -1, 3)
    in_camera = points @ cameras.world_to_camera[:, :3, :3].mT + cameras.world_to_camera[:, None, :3, 3]
    image = in_camera @ intrinsics.mT
    assert torch.allclose(image[..., 2], depth.reshape(3, -1))
    assert torch.allclose(image[1, :, 0] / image[1, :, 2], torch.arange(8).double().repeat(6) + 0.5)
    with pytest.raises(InputError, match=r"\(3, 6, 8\)"):
        geometry.unproject(depth[:, :5], cameras)


def test_usd_camera_looks_along_minus_z_with_y_up(generator: torch.Generator) -> None:
    """The same camera in USD's axes: right kept, up = -down, -z = forward, centre kept; and back."""
    camera_to_world = torch.linalg.inv(geometry.look_at(torch.randn(5, 3, generator=generator), torch.zeros(3)))
    usd = geometry.opencv_to_usd_camera(camera_to_world)
    assert torch.equal(usd[:, :3, 0], camera_to_world[:, :3, 0])
    assert torch.equal(usd[:, :3, 1], -camera_to_world[:, :3, 1])
    assert torch.equal(-usd[:, :3, 2], camera_to_world[:, :3, 2])
    assert torch.equal(usd[:, :, 3], camera_to_world[:, :, 3])
    assert torch.equal(geometry.usd_to_opencv_camera(usd), camera_to_world)


def test_lens_round_trip_with_off_centre_principal_point() -> None:
    """Intrinsics survive the way through USD's apertures and offsets."""
    intrinsics = torch.tensor([[300.0, 0, 150.25], [0, 310.0, 97.5], [0, 0, 1]]).double()
    lens = geometry.usd_lens(intrinsics, 320, 176, horizontal_aperture_mm=36.0)
    assert lens.horizontal_aperture == 36.0
    assert torch.allclose(geometry.lens_to_intrinsics(lens, 320, 176), intrinsics, rtol=1e-14, atol=0)


def test_usd_sees_a_point_at_our_pixel() -> None:
    """USD's own camera, given our matrix and lens, projects a world point to the pixel where we see it."""
    Gf = importlib.import_module("pxr.Gf")
    width, height = 320, 176
    intrinsics = torch.tensor([[300.0, 0, 150.25], [0, 310.0, 97.5], [0, 0, 1]], dtype=torch.float64)
    world_to_camera = geometry.look_at(torch.tensor([3.0, -2.0, 1.5]).double(), torch.tensor([0.0, 0.5, 0.7]).double())
    point = torch.tensor([0.3, 0.2, 1.0, 1.0], dtype=torch.float64)
    homogeneous = intrinsics @ (world_to_camera @ point)[:3]

    lens = geometry.usd_lens(intrinsics, width, height)
    camera = Gf.Camera(focalLength=lens.focal_length, horizontalAperture=lens.horizontal_aperture)
    camera.verticalAperture = lens.vertical_aperture
    camera.horizontalApertureOffset, camera.verticalApertureOffset = lens.horizontal_offset, lens.vertical_offset
    camera.transform = Gf.Matrix4d(geometry.opencv_to_usd_camera(torch.linalg.inv(world_to_camera)).T.tolist())
    frustum = camera.frustum
    clip = (frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()).Transform(Gf.Vec3d(*point[:3].tolist()))
    assert (clip[0] + 1) / 2 * width == pytest.approx(float(homogeneous[0] / homogeneous[2]), abs=1e-4)
    assert (1 - clip[1]) / 2 * height == pytest.approx(float(homogeneous[1] / homogeneous[2]), abs=1e-4)


def test_constant_colour_round_trip() -> None:
    """The zeroth coefficient of a colour gives the colour back from every direction."""
    rgb = torch.tensor([[0.1, 0.5, 0.9]])
    dc = geometry.rgb_to_sh_dc(rgb)
    assert torch.allclose(geometry.sh_dc_to_rgb(dc), rgb)
    assert torch.allclose(geometry.eval_sh(dc[:, None], torch.tensor([[0.0, 3.0, 0.0]])), rgb)


def test_harmonics_are_orthonormal_over_the_sphere() -> None:
    """Integrals of products of two basis functions form the identity."""
    z, weight = np.polynomial.legendre.leggauss(8)
    angle = torch.arange(16).double() * (2 * math.pi / 16)
    height = torch.tensor(z)[:, None].expand(8, 16)
    radius = (1 - height**2).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1).reshape(-1, 3)
    basis = geometry.sh_basis(directions, 16)
    solid_angle = torch.tensor(weight).repeat_interleave(16) * (2 * math.pi / 16)
    assert torch.allclose(basis.T * solid_angle @ basis, torch.eye(16).double(), atol=1e-12)


def test_harmonics_have_the_signs_of_gaussian_splatting() -> None:
    """Degree 1 is ordered y, z, x with signs -, +, -; the first of degree 3 is -y (3 x^2 - y^2)."""
    basis = geometry.sh_basis(torch.eye(3).double(), 16)
    k1 = 0.4886025119029199
    assert torch.allclose(basis[:, 1:4], torch.tensor([[0, 0, -k1], [-k1, 0, 0], [0, k1, 0]]).double())
    assert float(basis[1, 9]) == pytest.approx(0.5900435899266435)
    assert float(basis[2, 6]) == pytest.approx(2 * 0.31539156525252005)


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_rotated_harmonics_look_the_same_from_the_rotated_direction(
    coefficients: int, generator: torch.Generator
) -> None:
    """Evaluating the rotated coefficients along R d equals evaluating the original ones along d."""
    sh = torch.randn(40, coefficients, 3, generator=generator, dtype=torch.float64)
    directions = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    for rotation in random_rotations(5, generator):
        rotated = geometry.eval_sh(geometry.rotate_sh(sh, rotation), directions @ rotation.T)
        assert torch.allclose(rotated, geometry.eval_sh(sh, directions), atol=1e-12)


def test_transformed_gaussians_keep_shape_and_colour(generator: torch.Generator) -> None:
    """Means move by s R p + t, covariances become s^2 R S R^T, colours turn with the scene."""
    gaussians = random_gaussians(30, 16, generator)
    rotation, translation = random_rotations(1, generator)[0], torch.tensor([1.0, -2.0, 3.0]).double()
    moved = geometry.transform_gaussians(gaussians, rotation, translation, scale=2.5)
    assert torch.allclose(moved.means, 2.5 * gaussians.means @ rotation.T + translation)
    assert torch.allclose(covariances(moved), 2.5**2 * rotation @ covariances(gaussians) @ rotation.T)
    view = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(geometry.eval_sh(moved.sh, view @ rotation.T), geometry.eval_sh(gaussians.sh, view))
    moved.validate()


def test_transformed_cameras_see_the_transformed_scene_at_scaled_depth(generator: torch.Generator) -> None:
    """A moved point has its old camera coordinates times the scale in the moved camera."""
    cameras = Cameras(
        geometry.look_at(torch.randn(4, 3, generator=generator).double(), torch.zeros(3).double()),
        torch.eye(3).double().expand(4, 3, 3),
        width=2,
        height=2,
    )
    rotation, translation = random_rotations(1, generator)[0], torch.tensor([1.0, -2.0, 3.0]).double()
    moved = geometry.transform_cameras(cameras, rotation, translation, scale=2.5)
    point = torch.randn(3, generator=generator, dtype=torch.float64)
    before = cameras.world_to_camera[:, :3, :3] @ point + cameras.world_to_camera[:, :3, 3]
    after = moved.world_to_camera[:, :3, :3] @ (2.5 * rotation @ point + translation) + moved.world_to_camera[:, :3, 3]
    assert torch.allclose(after, 2.5 * before)
    assert torch.allclose(moved.positions, 2.5 * cameras.positions @ rotation.T + translation)


def test_transforms_refuse_what_is_no_similarity(generator: torch.Generator) -> None:
    """Mirrors, shears and scales that are not positive are named and refused."""
    gaussians, zero = random_gaussians(2, 1, generator), torch.zeros(3)
    for rotation, scale in ((torch.diag(torch.tensor([1.0, 1, -1])), 1.0), (2 * torch.eye(3), 1.0)):
        with pytest.raises(InputError, match="determinant"):
            geometry.transform_gaussians(gaussians, rotation, zero, scale)
    with pytest.raises(InputError, match="scale is -1"):
        geometry.transform_gaussians(gaussians, torch.eye(3), zero, scale=-1)
