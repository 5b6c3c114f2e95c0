"""``omni-gen3d eval mini``: every figure that says whether the trained mini model works, on held-out worlds."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from omni_gen3d.checkpoints import load_network
from omni_gen3d.decoder.mini import MiniDecoder
from omni_gen3d.errors import InputError
from omni_gen3d.training.captions import Attributes
from omni_gen3d.training.ceilings import add_ceilings, seed_distances
from omni_gen3d.training.classifier import (
    GROUPS,
    AttributeScores,
    TrainedClassifier,
    attribute_scores,
    classify,
    decidable_attributes,
    train_classifier,
)
from omni_gen3d.training.clips import (
    FOCAL_RANGE,
    TEXT_FOCAL,
    Clips,
    Views,
    caption_pictures,
    sample_pictures,
)
from omni_gen3d.training.decoder import (
    draw_trajectories,
    fidelity_scores,
    gaussians_kept,
    kept_gaussians,
    load_video_model,
)
from omni_gen3d.training.preview import write_contact_sheet
from omni_gen3d.training.scenes import (
    FirstFrames,
    Scenes,
    first_frames_from_pictures,
    first_frames_from_prompts,
    imagine_along,
    imagine_scenes,
)
from omni_gen3d.training.scoring import (
    Tally,
    add_depth,
    add_novel,
    add_truth,
    check,
    evaluation_report,
    seventh_trajectory,
)
from omni_gen3d.training.worlds import world_generator
from omni_gen3d.video.imagine import VideoModel
from omni_gen3d.video.trajectories import TRAJECTORY_NAMES

MAX_SCENES = 1024
MIN_CLASSIFIER_ACCURACY = 0.95
_DIVERSITY_PROMPTS = 16
# How many scenes are made at once; on a CPU six took more than 23 GB.
_SCENES_AT_ONCE = {"cuda": 8, "cpu": 1}
_PICTURES_PER_CHUNK = 64
_SHEET_ROWS = 8
_SHEET_TRAJECTORY = TRAJECTORY_NAMES.index("right")
_MEANINGS = {
    "fidelity_psnr_db": "renders of the Gaussians against the RGB decoder, far half of six trajectories, from text",
    "baseline_psnr_db": "the first frame repeated, same frames",
    "top_half_psnr_db": "only the more opaque half of the Gaussians, same frames",
    "opacity_median": "of the kept Gaussians",
    "novel_psnr_db": "a seventh trajectory against its own RGB, far half, where the 3D cache covers it",
    "novel_seen_share": "of those pixels are covered",
    "depth_absrel": "splat depth at the first camera against held-out worlds, from pictures",
    "network_depth_absrel": "the depth network's own",
    "image_psnr_db": "renders against held-out worlds along the trajectories, in the scene's own metres",
    "image_psnr_aligned_db": "the same with the true median depth as the scale",
    "hole_psnr_db": "where the first frame saw nothing",
    "hole_psnr_aligned_db": "the same with the true median depth as the scale",
    "repeated_psnr_db": "the first frame repeated, the frames of image_psnr_db",
    "repeated_psnr_aligned_db": "the same with the true median depth as the scale",
    "image_frames_share": "of the true frames are counted: their camera is clear of walls and furniture",
    "image_frames_share_aligned": "the same with the true median depth as the scale",
    "tokenizer_psnr_db": "round trip of true frames along one trajectory",
    "tokenizer_seen_psnr_db": "the same where the first frame's 3D cache of true depth covers them",
    "rgb_seen_psnr_db": "the RGB decoder's frames imagined with true depth, same pixels",
    "rgb_hole_psnr_db": "the same where the cache covers nothing",
    "diversity_distance": "between features of one prompt's pictures from two seeds; 1 is that between prompts",
    "same_seed_distance": "the same from one seed twice",
    "prompt_accuracy": "share of the named attributes found in renders at the first camera",
    "prompt_accuracy_chance": "the same with every prompt held against the other renders",
    "prompt_accuracy_rgb": "the same in the RGB decoder's first frames",
    "prompts_complete": "share of the prompts all of whose named attributes are found",
    "prompts_complete_chance": "the same with every prompt held against the other renders",
    "classifier_accuracy": "share of the named attributes found in held-out true frames",
    "classifier_chance": "the same with every caption held against the other frames",
    "classifier_absent_rejected": "share of the absent object types not seen in true frames",
    "peak_memory_gib": "allocated on the GPU, or resident on a CPU",
    "seconds_total": "everything, the classifier included",
}


class _Stopwatch:
    """Seconds of each stage and scene; waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, stage: str, scenes: int) -> Iterator[None]:
        began = self._now()
        yield
        self._seconds[stage].append((self._now() - began) / scenes)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def medians(self) -> dict[str, float]:
        return {stage: median(seconds) for stage, seconds in self._seconds.items()}


class _Evaluation:
    """The networks under test and what has been measured so far."""

    def __init__(
        self, weights: Path, device: torch.device, seed: int, size: tuple[int, int, int], max_gaussians: int
    ) -> None:
        self.device, self.max_gaussians = device, max_gaussians
        self.height, self.width, self.num_frames = size
        self.model: VideoModel = load_video_model(
            weights / "tokenizer", weights / "depth", weights / "diffusion", device
        )
        self.decoder: MiniDecoder = load_network(MiniDecoder, weights / "decoder", device)
        self.generator = world_generator(seed, "heldout", device)
        self.rng = np.random.default_rng(seed)
        self.tally, self.watch = Tally(), _Stopwatch(device)
        self.sheets: dict[str, list[torch.Tensor]] = {}
        self.prompts: list[str] = []

    def in_bfloat16(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def heldout_batches(self, scenes: int, focal_range: tuple[float, float]) -> Iterator[tuple[Views, Clips]]:
        """Held-out worlds and their pictures, made 64 at a time, handed out as many at a time as the device takes."""
        step = _SCENES_AT_ONCE[self.device.type]
        for begin in range(0, scenes, _PICTURES_PER_CHUNK):
            count = min(_PICTURES_PER_CHUNK, scenes - begin)
            views, clips = sample_pictures(count, self.height, self.width, self.generator, focal_range)
            for first in range(0, count, step):
                part = slice(first, min(first + step, count))
                yield views[part], clips[part]

    def generate(self, first: FirstFrames) -> tuple[Scenes, dict[str, torch.Tensor], torch.Tensor]:
        """Scenes, their kept Gaussians, and renders along the six trajectories ``(B, 6, L, H, W, 3)``."""
        count = len(first.prompts)
        with self.watch("imagine", count), self.in_bfloat16():
            scenes = imagine_scenes(self.model, first, self.num_frames, self.generator)
        with self.watch("decode", count), torch.no_grad():
            kept = kept_gaussians(self._student, scenes, self.max_gaussians)
        with self.watch("render", count):
            drawn = draw_trajectories(kept, scenes)
        return scenes, kept, drawn

    def _show(self, sheet: str, rows: torch.Tensor) -> None:
        """Put the first scenes on a sheet, rows ``(B, 4, 3, H, W)``."""
        shown = self.sheets.setdefault(sheet, [])
        shown += rows[: _SHEET_ROWS - len(shown)]

    def _student(self, *args: torch.Tensor) -> torch.Tensor:
        with self.in_bfloat16():
            return self.decoder(*args)

    def text_scenes(self, scenes: int) -> tuple[Attributes, torch.Tensor, torch.Tensor]:
        """Measure scenes made from the captions of held-out worlds.

        Returns:
            What the captions ask for, the renders at the first camera and the RGB decoder's first frames, the latter
            two of shape ``(B, 3, H, W)``.
        """
        wanted, renders, frames = [], [], []
        arc = seventh_trajectory(self.num_frames, self.device)
        for views, clips in self.heldout_batches(scenes, (TEXT_FOCAL, TEXT_FOCAL)):
            captions = caption_pictures(views, clips, self.rng)
            count = len(captions)
            with self.watch("text to picture", count), self.in_bfloat16():
                first = first_frames_from_prompts(self.model, captions, self.height, self.width, self.generator)
            made, kept, drawn = self.generate(first)
            self.prompts += captions[: _DIVERSITY_PROMPTS - len(self.prompts)]
            self.tally.add(fidelity_scores(kept, drawn, made), count)
            with self.in_bfloat16():
                novel = imagine_along(self.model, first, arc.expand(count, 1, -1, 4, 4), self.generator)
            add_novel(self.tally, kept, first, novel)
            wanted.append(decidable_attributes(captions, views.worlds, clips.surface[:, 0]))
            shown = drawn.permute(0, 1, 2, 5, 3, 4)
            renders.append(shown[:, 0, 0])
            frames.append(made.teacher[:, 0, :, 0])
            far = made.teacher[:, _SHEET_TRAJECTORY, :, -1], shown[:, _SHEET_TRAJECTORY, -1]
            self._show("text.png", torch.stack([frames[-1], renders[-1], *far], 1))
        asked = Attributes(*(torch.cat([getattr(part, group) for part in wanted]) for group in GROUPS))
        return asked, torch.cat(renders), torch.cat(frames)

    def image_scenes(self, scenes: int) -> None:
        """Measure scenes made from pictures of held-out worlds of known field of view, without a prompt."""
        for views, clips in self.heldout_batches(scenes, FOCAL_RANGE):
            pictures = clips.rgb[:, :, 0]
            with self.in_bfloat16():
                first = first_frames_from_pictures(self.model, pictures, clips.intrinsics, [""] * len(pictures))
            made, kept, drawn = self.generate(first)
            add_depth(self.tally, kept, first, clips)
            ends = add_truth(self.tally, drawn, first, made, views, clips)
            with self.in_bfloat16():
                add_ceilings(self.tally, self.model, first, views, clips, self.num_frames, self.generator)
            shown = drawn.permute(0, 1, 2, 5, 3, 4)
            far = ends[:, _SHEET_TRAJECTORY], shown[:, _SHEET_TRAJECTORY, -1]
            self._show("image.png", torch.stack([pictures, shown[:, 0, 0], *far], 1))

    def seed_distances(self, features_of: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Of the first prompts; see ``ceilings.seed_distances``."""

        def pictures_of(seed: int) -> torch.Tensor:
            generator = torch.Generator(self.device).manual_seed(seed)
            with self.in_bfloat16():
                first = first_frames_from_prompts(self.model, self.prompts, self.height, self.width, generator)
            return (first.picture / 2 + 0.5).clamp(0, 1).float()

        return seed_distances(pictures_of, features_of)


def evaluate_mini(
    weights: Path,
    scenes: int,
    device: torch.device | str,
    seed: int = 0,
    *,
    against: Path | None = None,
    out: Path | None = None,
    classifier_seconds: float = 75.0,
    height: int = 176,
    width: int = 320,
    num_frames: int = 17,
    max_gaussians: int | None = None,
) -> dict[str, Any]:
    """Measure a trained mini model; no ground truth enters any network but the prompt or the given picture.

    PSNR is taken over the mean squared error of all scenes together.

    Args:
        weights: Folder with tokenizer, depth, diffusion and decoder.
        scenes: How many from text, and as many from pictures.
        device: Where everything runs.
        seed: Of the held-out worlds, the noise and the classifier.
        against: Folder of other weights, measured on the same worlds by the same classifier.
        out: Folder for two contact sheets of eight scenes each. text.png: RGB decoder's first frame, render at the
            first camera, RGB decoder's last frame of the trajectory to the right, render of it. image.png: given
            picture, render, true world at the end of the trajectory to the right (true scale), render of it.
        classifier_seconds: Budget of the classifier's training.
        height: Of the pictures, divisible by 16.
        width: Of the pictures, divisible by 16.
        num_frames: Of each trajectory, 8 (T - 1) + 1.
        max_gaussians: Kept of a scene; as many for its pixels as the decoder was trained with where None.

    Returns:
        device, scenes, seed, every figure by its name, classifier (accuracy per group, groups used), seconds_per_scene
        of each stage, rows (name, value, against, meaning) and checks (name, value, target, ok).

    Raises:
        InputError: Weights are missing, or a number is out of range.
    """
    if not 2 <= scenes <= MAX_SCENES:
        raise InputError(f"the number of scenes is {scenes}; it must lie between 2 and {MAX_SCENES}.")
    place = torch.device(device)
    began = time.perf_counter()
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    size = (height, width, num_frames)
    if max_gaussians is None:
        max_gaussians = gaussians_kept(height, width)
    tested = _Evaluation(weights, place, seed, size, max_gaussians)
    other = None if against is None else _Evaluation(against, place, seed, size, max_gaussians)
    # Trained first: it also compiles the renderer of the worlds on a GPU.
    classifier = train_classifier(classifier_seconds, place, height, width, seed=seed)

    def measure(evaluation: _Evaluation) -> tuple[dict[str, float], AttributeScores]:
        torch.manual_seed(seed)
        wanted, renders, frames = evaluation.text_scenes(scenes)
        evaluation.image_scenes(scenes)
        in_renders, in_frames = (
            attribute_scores(classify(classifier.network, pictures), wanted, classifier.groups_used)
            for pictures in (renders, frames)
        )
        figures = evaluation.tally.means() | evaluation.seed_distances(classifier.network.features)
        return figures | _prompt_figures(in_renders, in_frames, classifier), in_renders

    other_figures = {} if other is None else measure(other)[0]
    figures, in_renders = measure(tested)
    if out is not None:
        for name, pictures in tested.sheets.items():
            write_contact_sheet(torch.cat(pictures), out / name, columns=4)
    figures |= {"peak_memory_gib": _peak_memory_gib(place), "seconds_total": time.perf_counter() - began}
    told = {
        "classifier": {
            "groups": classifier.true_frames.groups,
            "groups_used": list(classifier.groups_used),
            "prompt_groups": in_renders.groups,
            "steps": classifier.steps,
            "seconds": classifier.seconds,
        },
        "seconds_per_scene": tested.watch.medians(),
    }
    return evaluation_report(place, scenes, seed, figures | told, other_figures, _MEANINGS, _checks(figures))


def _prompt_figures(
    in_renders: AttributeScores, in_frames: AttributeScores, classifier: TrainedClassifier
) -> dict[str, float]:
    return {
        "prompt_accuracy": in_renders.accuracy,
        "prompt_accuracy_chance": in_renders.chance,
        "prompt_accuracy_rgb": in_frames.accuracy,
        "prompts_complete": in_renders.complete,
        "prompts_complete_chance": in_renders.chance_complete,
        "classifier_accuracy": classifier.true_frames.accuracy,
        "classifier_chance": classifier.true_frames.chance,
        "classifier_absent_rejected": classifier.absent_rejected,
    }


def _checks(figures: Mapping[str, float]) -> list[dict[str, Any]]:
    def above(name: str, other: str) -> float:
        return figures.get(name, nan) - figures.get(other, nan)

    return [
        check("fidelity above baseline [dB]", above("fidelity_psnr_db", "baseline_psnr_db"), 6.0),
        check("novel views above baseline [dB]", above("novel_psnr_db", "baseline_psnr_db"), 4.0),
        check("opacity, median", figures["opacity_median"], 0.7),
        check("top half below all [dB]", above("fidelity_psnr_db", "top_half_psnr_db"), 2.0, at_most=True),
        check("tokenizer [dB]", figures["tokenizer_psnr_db"], 38.0),
        check("depth, absolute relative error", figures["depth_absrel"], 0.05, at_most=True),
        check(
            "RGB below the tokenizer where the warp covers [dB]",
            above("tokenizer_seen_psnr_db", "rgb_seen_psnr_db"),
            1.5,
            at_most=True,
        ),
        check("RGB in holes [dB]", figures.get("rgb_hole_psnr_db", nan), 24.0),
        check("image above the first frame repeated [dB]", above("image_psnr_db", "repeated_psnr_db"), 0.0),
        check("prompt accuracy", figures["prompt_accuracy"], 0.85),
        check("distance between seeds", figures["diversity_distance"], 0.1),
        check("distance between runs of a seed", figures["same_seed_distance"], 1e-3, at_most=True),
        check("classifier accuracy on true frames", figures["classifier_accuracy"], MIN_CLASSIFIER_ACCURACY),
    ]


def _peak_memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
