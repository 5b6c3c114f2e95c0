"""What every video model of the official family does: imagine one trajectory around a picture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Shot:
    """One trajectory to imagine.

    Attributes:
        name: Of the trajectory.
        picture: The first frame in [-1, 1], shape ``(3, H, W)``.
        depth: Its depth along z [scene units], shape ``(H, W)``.
        intrinsics: Of every frame, pixel centres at i + 0.5, shape ``(3, 3)``.
        camera_to_first: Of every frame [scene units], shape ``(L, 4, 4)``.
        prompt: May be empty.
        seed: Of the shot's own noise, so that its bytes do not depend on where and when it is made.
    """

    name: str
    picture: torch.Tensor
    depth: torch.Tensor
    intrinsics: torch.Tensor
    camera_to_first: torch.Tensor
    prompt: str
    seed: int

    @property
    def num_frames(self) -> int:
        return len(self.camera_to_first)


class VideoBackend(Protocol):
    """A video model on one device."""

    def imagine(self, shot: Shot, on_step: Callable[[float], None]) -> torch.Tensor:
        """Raw latents of the trajectory, shape ``(16, T, h, w)``, float32, on the CPU.

        Args:
            shot: What to imagine.
            on_step: Called now and then with the share that is done; may raise to stop.
        """
        ...


def working_on(device: torch.device) -> AbstractContextManager[object]:
    """Make a card the current one of this thread: streams and kernels of libraries start where that is."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
