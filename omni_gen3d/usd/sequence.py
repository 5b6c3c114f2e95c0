"""A scene that moves, as a splat prim: time samples where the count stays, one value clip a time where it changes.

Frame ``i`` belongs to time code ``i``. Both forms hold the first frame without a time as well, so that a program that
knows no time still sees a scene; the file holds those arrays once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pxr import Sdf, Usd, Vt

from omni_gen3d.errors import InputError
from omni_gen3d.types import Gaussians, GaussianSequence
from omni_gen3d.usd.splats import (
    QUANTITIES,
    as_stored,
    define_splats,
    gaussians_extent,
    quantities_fit_for_half,
    set_quantity,
)
from omni_gen3d.usd.stage import new_stage, save_stage
from omni_gen3d.usd.target import MAX_CLIPS, SPLATS_NAME, clip_name

SPLATS_PATH = "/Splats"


def sequence_extent(sequence: GaussianSequence, halved: frozenset[str] = frozenset()) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner of a box around every Gaussian at every time [m]; see ``gaussians_extent``."""
    lows, highs = zip(*(gaussians_extent(as_stored(frame, halved)) for frame in sequence.frames), strict=True)
    return np.min(lows, axis=0), np.max(highs, axis=0)


def write_sequence(
    sequence: GaussianSequence, folder: Path, *, half: bool = False, name: str = SPLATS_NAME, held: bool = False
) -> None:
    """Write splats.usdc, and where the count changes splats.0000.usdc and so on, into ``folder``.

    Args:
        sequence: What to write.
        folder: Where to.
        half: Half precision for what it is fit for.
        name: Of the first file; the others are named after it.
        held: Nothing is the same from one frame to the next: write clips, between which USD does not interpolate,
            also where the count stays.

    Raises:
        InputError: A value is out of range (see ``Gaussians.validate``), or clips would be needed for more than
            ``MAX_CLIPS`` frames.
    """
    for frame in sequence.frames:
        frame.validate()
    halved = quantities_fit_for_half(sequence.frames) if half else frozenset()
    if not held and len({len(frame) for frame in sequence.frames}) == 1:
        save_stage(_sampled_stage(sequence, halved), folder / name)
        return
    if len(sequence) > MAX_CLIPS:
        raise InputError(
            f"the sequence holds {len(sequence)} frames whose count of Gaussians changes; at most {MAX_CLIPS} can be "
            "written. Give fewer frames, or frames of one count."
        )
    for i, frame in enumerate(sequence.frames):
        save_stage(_clip_stage(sequence, i, frame, halved), folder / clip_name(i, name))
    save_stage(_stage_of_clips(sequence, halved, name), folder / name)


def moving_quantities(frames: Sequence[Gaussians]) -> list[str]:
    """Fields of ``Gaussians`` that differ between frames of one count."""
    first = frames[0]
    return [
        name
        for name in QUANTITIES
        if any(not torch.equal(getattr(frame, name), getattr(first, name)) for frame in frames[1:])
    ]


def _sampled_stage(sequence: GaussianSequence, halved: frozenset[str]) -> Usd.Stage:
    stage = new_stage("Splats", frames_per_second=sequence.frames_per_second, num_frames=len(sequence))
    degree = sequence.frames[0].sh_degree
    prim = define_splats(stage, SPLATS_PATH, degree, "sh" in halved, sequence_extent(sequence, halved)).GetPrim()
    moving = moving_quantities(sequence.frames)
    for name in QUANTITIES:
        times = [Usd.TimeCode.Default(), Usd.TimeCode(0)] if name in moving else [Usd.TimeCode.Default()]
        set_quantity(prim, name, sequence.frames[0], name in halved, times)
    for i, frame in enumerate(sequence.frames[1:], start=1):
        for name in moving:
            set_quantity(prim, name, frame, name in halved, [Usd.TimeCode(i)])
    return stage


def _clip_stage(sequence: GaussianSequence, index: int, frame: Gaussians, halved: frozenset[str]) -> Usd.Stage:
    """One frame; USD reads the sample of a clip, and the plain value of the first one through a payload."""
    stage = new_stage("Splats", frames_per_second=sequence.frames_per_second)
    prim = define_splats(
        stage, SPLATS_PATH, frame.sh_degree, "sh" in halved, gaussians_extent(as_stored(frame, halved))
    ).GetPrim()
    times = [Usd.TimeCode(index)] + ([Usd.TimeCode.Default()] if index == 0 else [])
    for name in QUANTITIES:
        set_quantity(prim, name, frame, name in halved, times)
    return stage


def _stage_of_clips(sequence: GaussianSequence, halved: frozenset[str], layer_name: str) -> Usd.Stage:
    """The layer that names the clips; it declares what they vary, so it is their manifest too."""
    stage = new_stage("Splats", frames_per_second=sequence.frames_per_second, num_frames=len(sequence))
    degree = sequence.frames[0].sh_degree
    prim = define_splats(stage, SPLATS_PATH, degree, "sh" in halved, sequence_extent(sequence, halved)).GetPrim()
    spec = stage.GetRootLayer().GetPrimAtPath(SPLATS_PATH)
    for name, quantity in QUANTITIES.items():
        attribute = prim.GetAttribute(quantity.name(name in halved))
        if attribute.GetName() not in spec.attributes:
            Sdf.AttributeSpec(spec, attribute.GetName(), attribute.GetTypeName())
    prim.GetPayloads().AddPayload(f"./{clip_name(0, layer_name)}")
    clips = Usd.ClipsAPI(prim)
    indices = [(float(i), float(i)) for i in range(len(sequence))]
    names = [clip_name(i, layer_name) for i in range(len(sequence))]
    clips.SetClipAssetPaths(Sdf.AssetPathArray([Sdf.AssetPath(f"./{name}") for name in names]))
    clips.SetClipPrimPath(SPLATS_PATH)
    clips.SetClipManifestAssetPath(Sdf.AssetPath(f"./{layer_name}"))
    clips.SetClipActive(Vt.Vec2dArray(indices))
    clips.SetClipTimes(Vt.Vec2dArray(indices))
    return stage
