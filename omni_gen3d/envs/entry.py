"""What the library says about one environment, and which of them a caller wants."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omni_gen3d.envs.plain import from_plain, to_plain
from omni_gen3d.errors import InputError

if TYPE_CHECKING:
    from omni_gen3d.usd import Manifest

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
HELDOUT_SHARE = 0.2
Point = tuple[float, float, float]

MAX_TAGS = 32
_TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_ID_DIGITS = 12
# What differs between two runs of the same input, or tells nothing about the environment.
_NOT_CONTENT = ("timings_s", "tool_versions")


@dataclass(frozen=True)
class Pose:
    """A point on the floor of the environment [m] and a heading about +Z, 0 along +X [rad]."""

    position: Point
    yaw: float


@dataclass(frozen=True)
class Description:
    """What the index keeps of an environment.

    Attributes:
        id: A slug of the title and the first digits of the digest.
        digest: SHA-256 over the manifest, timings and tool versions aside; the manifest has the digest of every file.
        title, kind, prompt, seed, model, num_gaussians, bounds_m: As in the manifest.
        bytes: Size of the files.
        tags: Words of its owner, sorted.
        spawn_poses: Where a robot can stand.
        scores: Figures of the collision proxy.
    """

    id: str
    digest: str
    title: str
    kind: Literal["static", "dynamic"]
    prompt: str | None
    seed: int | None
    model: str
    num_gaussians: int
    bounds_m: tuple[Point, Point]
    bytes: int
    tags: tuple[str, ...]
    spawn_poses: tuple[Pose, ...]
    scores: dict[str, bool | int | float | None]

    @property
    def area_m2(self) -> float:
        """Footprint of the box around everything [m2]."""
        (x0, y0, _), (x1, y1, _) = self.bounds_m
        return (x1 - x0) * (y1 - y0)

    @property
    def size_m(self) -> Point:
        """Edges of the box around everything [m]."""
        low, high = self.bounds_m
        return high[0] - low[0], high[1] - low[1], high[2] - low[2]

    @property
    def split(self) -> Split:
        """A fifth of all environments is held out: which, the digest of the id decides, once and for all."""
        number = int.from_bytes(hashlib.sha256(f"split of {self.id}".encode()).digest()[:8], "big")
        return "heldout" if number < HELDOUT_SHARE * 2**64 else "train"


@dataclass(frozen=True)
class Entry(Description):
    """An environment in the library; ``folder`` is where it lies as long as nobody removes it."""

    folder: Path

    @property
    def usd(self) -> Path:
        """The root layer."""
        return self.folder / "environment.usda"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the derived ones too."""
        derived = {"area_m2": self.area_m2, "split": self.split, "usd": str(self.usd)}
        return {**to_plain(self), "folder": str(self.folder), **derived}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which environments are wanted; what is None or empty does not matter.

    Attributes:
        kind: ``static`` or ``dynamic``.
        split: ``train`` or ``heldout``.
        tags: All of these.
        min_area_m2: Least footprint [m2].
        max_area_m2: Largest footprint [m2].
        max_size_m: Largest edges along X, Y and Z [m].
        min_scores: Least value of scores, by name; an environment without the score is left out.
        max_scores: Largest value of scores, by name; likewise.
    """

    kind: Literal["static", "dynamic"] | None = None
    split: Split | None = None
    tags: tuple[str, ...] = ()
    min_area_m2: float | None = None
    max_area_m2: float | None = None
    max_size_m: Point | None = None
    min_scores: dict[str, float] = field(default_factory=dict)
    max_scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in (None, "static", "dynamic"):
            raise InputError(f"kind is '{self.kind}'; allowed are static and dynamic.")
        if self.split not in (None, *SPLITS):
            raise InputError(f"split is '{self.split}'; allowed are {' and '.join(SPLITS)}.")
        check_tags(self.tags)
        for name, area in (("min_area_m2", self.min_area_m2), ("max_area_m2", self.max_area_m2)):
            if area is not None and not area >= 0:
                raise InputError(f"{name} is {area}; it must be at least 0.")

    def accepts(self, entry: Description) -> bool:
        """Whether an environment is wanted."""
        low, high = self.min_area_m2, self.max_area_m2
        return (
            self.kind in (None, entry.kind)
            and self.split in (None, entry.split)
            and set(self.tags) <= set(entry.tags)
            and (low is None or entry.area_m2 >= low)
            and (high is None or entry.area_m2 <= high)
            and (self.max_size_m is None or all(a <= b for a, b in zip(entry.size_m, self.max_size_m, strict=True)))
            and all(_score(entry, name, -math.inf) >= least for name, least in self.min_scores.items())
            and all(_score(entry, name, math.inf) <= most for name, most in self.max_scores.items())
        )


def check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags, sorted and each once.

    Raises:
        InputError: There are too many, or one is no short lower-case word.
    """
    for tag in tags:
        if not isinstance(tag, str) or _TAG.fullmatch(tag) is None:
            raise InputError(
                f"the tag {tag!r} cannot be used; write 1 to 32 lower-case letters, digits, dots, dashes or "
                "underscores, a letter or digit first."
            )
    if len(set(tags)) > MAX_TAGS:
        raise InputError(f"{len(set(tags))} tags were given; at most {MAX_TAGS} are allowed.")
    return tuple(sorted(set(tags)))


def describe(manifest: Manifest, tags: tuple[str, ...]) -> Description:
    """What the index keeps of the environment that ``manifest`` describes."""
    content = {name: value for name, value in manifest.to_dict().items() if name not in _NOT_CONTENT}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Description(
        id=f"{slug(manifest.title)}-{digest[:_ID_DIGITS]}",
        digest=digest,
        title=manifest.title,
        kind=manifest.kind,
        prompt=manifest.prompt,
        seed=manifest.seed,
        model=manifest.model,
        num_gaussians=manifest.num_gaussians,
        bounds_m=manifest.bounds_m,
        bytes=sum(file.bytes for file in manifest.files.values()),
        tags=check_tags(tags),
        spawn_poses=tuple(Pose(pose.position, pose.yaw) for pose in manifest.spawn_poses),
        scores=dict(manifest.proxy),
    )


def entry_of_folder(folder: Path | str) -> Entry:
    """An environment folder that need not lie in a library, as an entry without tags.

    Raises:
        InputError: It has no manifest, or a damaged one.
    """
    from omni_gen3d.usd.manifest import Manifest
    from omni_gen3d.usd.target import MANIFEST_NAME

    directory = Path(folder)
    return Entry(**vars(describe(Manifest.read(directory / MANIFEST_NAME), ())), folder=directory)


def description_from_json(text: str) -> Description:
    """Inverse of ``json.dumps(to_plain(description))``.

    Raises:
        InputError: The text is something else.
    """
    try:
        return from_plain(Description, json.loads(text), "the entry")
    except (ValueError, RecursionError) as error:
        raise InputError(f"the index holds a damaged entry; run 'omni-gen3d envs repair'. {error}") from error


def slug(title: str, max_chars: int = 40) -> str:
    """The first words of a title, fit for a name: lower-case letters, digits and dashes."""
    ascii_text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", ascii_text))
    if len(words) > max_chars:
        words = words[: max_chars + 1].rpartition("-")[0] or words[:max_chars]
    return words or "environment"


def _score(entry: Description, name: str, absent: float) -> float:
    value = entry.scores.get(name)
    return absent if value is None else float(value)
