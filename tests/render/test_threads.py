"""Pictures drawn side by side are the pictures drawn one after the other."""

from __future__ import annotations

import threading

import numba
import torch

from omni_gen3d import geometry
from omni_gen3d.render import render
from omni_gen3d.render.threads import side_by_side, torch_on
from omni_gen3d.types import Cameras, Gaussians


def test_a_batch_has_the_bytes_of_its_pictures() -> None:
    """Six cameras in one call give exactly what six calls give, and leave the number of threads as it was."""
    draw = torch.Generator().manual_seed(0)
    count = 400
    gaussians = Gaussians(
        means=torch.randn(count, 3, generator=draw),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=draw), dim=1),
        scales=torch.exp(torch.randn(count, 3, generator=draw) - 3),
        opacities=torch.rand(count, generator=draw),
        sh=torch.randn(count, 4, 3, generator=draw),
    )
    angle = torch.arange(6.0)
    eyes = torch.stack([3 * angle.cos(), 3 * angle.sin(), 0.2 * angle], 1)
    lens = geometry.intrinsics_from_fov(1.0, 40, 30).repeat(6, 1, 1)
    cameras = Cameras(geometry.look_at(eyes, torch.zeros(3)), lens, 40, 30)
    threads = numba.get_num_threads()
    together = render(gaussians, cameras)
    assert numba.get_num_threads() == threads
    for i in range(6):
        alone = render(gaussians, cameras[[i]])
        assert torch.equal(together.color[i], alone.color[0]) and torch.equal(together.depth[i], alone.depth[0])


def test_results_come_in_order_and_errors_come_out() -> None:
    """The list of results follows the tasks, and one that fails raises here."""
    assert side_by_side([lambda i=i: i * i for i in range(20)]) == [i * i for i in range(20)]
    assert side_by_side([threading.get_ident]) == [threading.get_ident()]

    def fail() -> int:
        raise RuntimeError("broken")

    try:
        side_by_side([fail, lambda: 1])
    except RuntimeError as error:
        assert str(error) == "broken"
    else:
        raise AssertionError("the error was swallowed")


def test_torch_keeps_the_cores_it_is_given() -> None:
    """Pictures drawn meanwhile change nothing about them, and afterwards torch has as many as before."""
    before = torch.get_num_threads()
    gaussians = Gaussians(
        torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, 3), torch.ones(1), torch.zeros(1, 1, 3)
    )
    camera = Cameras(
        geometry.look_at(torch.tensor([[3.0, 0, 0]]), torch.zeros(3)),
        geometry.intrinsics_from_fov(1.0, 40, 30)[None],
        40,
        30,
    )
    with torch_on(1):
        assert torch.get_num_threads() == 1
        render(gaussians, camera)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
