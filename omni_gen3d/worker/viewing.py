"""What a host's camera sees of the environments on its stage, drawn by the render delegate on a stage of the worker's.

The host sends places and a lens, not its stage: robots and other prims of the host are not in the picture.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.render.aovs import Aov
from omni_gen3d.render.delegate import SplatRenderDelegate
from omni_gen3d.render.picture import (
    alpha_to_image,
    color_to_image,
    depth_to_image,
    ids_to_image,
    normal_to_image,
)
from omni_gen3d.usd.composing import CAMERA_PATH, Lens, Placed, author_lens, compose_stage


@dataclass(frozen=True, kw_only=True)
class View:
    """A picture that is asked for."""

    environments: tuple[Placed, ...]
    camera: Lens
    width: int
    height: int
    aov: str = "color"


class Viewer:
    """Keeps the stage of the environments that were asked for last: another camera or picture reads nothing again."""

    def __init__(self) -> None:
        self._environments: tuple[Placed, ...] | None = None
        self._stage: Any = None
        self._delegate: SplatRenderDelegate | None = None

    def draw(self, view: View) -> dict[str, Any]:
        """The picture as RGBA bytes in base64, rows from the top, and the labels that semantic ids stand for.

        Raises:
            InputError: The view cannot be drawn, see ``SplatRenderDelegate.render``.
        """
        if view.aov not in get_args(Aov):
            raise InputError(f"the picture is '{view.aov}'; allowed are {', '.join(get_args(Aov))}.")
        delegate = self._show(view.environments)
        author_lens(self._stage, view.camera)
        aov = cast(Aov, view.aov)
        aovs: tuple[Aov, ...] = (aov, "alpha") if aov in ("depth", "distance") else (aov,)
        frame = delegate.render(CAMERA_PATH, aovs=aovs, size=(view.width, view.height))
        image = picture_of(aov, {name: torch.as_tensor(stack[0]).cpu() for name, stack in frame.aovs.items()})
        rgba = np.full((view.height, view.width, 4), 255, np.uint8)
        rgba[..., :3] = image if image.ndim == 3 else image[..., None]
        return {
            "width": view.width,
            "height": view.height,
            "rgba": base64.b64encode(rgba.tobytes()).decode("ascii"),
            "labels": list(frame.labels),
        }

    def _show(self, environments: tuple[Placed, ...]) -> SplatRenderDelegate:
        if self._delegate is None or environments != self._environments:
            if self._delegate is not None:
                self._delegate.close()
            self._stage = compose_stage(environments)
            self._delegate = SplatRenderDelegate(self._stage)
            self._environments = environments
        return self._delegate


def picture_of(aov: Aov, pictures: dict[Aov, torch.Tensor]) -> np.ndarray:
    """What a person sees of an AOV, uint8, ``(H, W, 3)``, alpha ``(H, W)``; depths need the alpha beside them."""
    picture = pictures[aov]
    if aov in ("depth", "distance"):
        return depth_to_image(picture, pictures["alpha"])
    if aov == "color":
        return color_to_image(picture)
    if aov == "alpha":
        return alpha_to_image(picture)
    return normal_to_image(picture.numpy()) if aov == "normal" else ids_to_image(picture.numpy())
