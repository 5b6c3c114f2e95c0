"""The judge of prompts: what counts as named and visible, how it is scored, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omni_gen3d.errors import InputError
from omni_gen3d.training.captions import Attributes, named_attributes
from omni_gen3d.training.classifier import (
    GROUPS,
    AttributeClassifier,
    attribute_scores,
    classify,
    decidable_attributes,
    train_classifier,
    type_shares,
)
from omni_gen3d.training.clips import Clips, Views, caption_pictures, sample_pictures
from omni_gen3d.training.worlds import world_generator


@pytest.fixture(scope="module")
def pictures() -> tuple[Views, Clips]:
    return sample_pictures(6, 16, 32, world_generator(5, "heldout", "cpu"))


def test_logits_of_any_size() -> None:
    """Every group has one logit a name, whatever the size of the pictures and the batch."""
    network = AttributeClassifier()
    assert 1e6 < sum(p.numel() for p in network.parameters()) < 2e6
    for height, width in ((16, 32), (48, 64)):
        logits = classify(network, torch.rand(3, 3, height, width))
        assert {group: tuple(value.shape) for group, value in logits.items()} == dict(
            zip(GROUPS, ((3, 6), (3, 7), (3, 6), (3, 18)), strict=True)
        )


def test_shares_count_pixels(pictures: tuple[Views, Clips]) -> None:
    """A type's share is the count of the pixels on which any of its pieces is seen."""
    views, clips = pictures
    shares = type_shares(views.worlds, clips.surface[:, 0])
    for b, types in enumerate(views.worlds.object_type.tolist()):
        pixels = clips.surface[b, 0].flatten().tolist()
        for kind in range(shares.shape[1]):
            count = sum(surface < 9 and types[surface] == kind for surface in pixels)
            assert float(shares[b, kind]) == pytest.approx(count / len(pixels))


def test_only_what_is_named_and_in_sight_is_asked(pictures: tuple[Views, Clips]) -> None:
    """Asked is what the caption names, minus small objects, and minus floors and walls out of sight."""
    views, clips = pictures
    surface = clips.surface[:, 0]
    captions = caption_pictures(views, clips, np.random.default_rng(1))
    named, asked = named_attributes(captions), decidable_attributes(captions, views.worlds, surface)
    assert torch.equal(asked.kind, named.kind)
    assert torch.equal(asked.objects, named.objects & (type_shares(views.worlds, surface) > 0.03))
    assert asked.objects.any() and not torch.equal(asked.objects, named.objects)
    only_ceiling = decidable_attributes(captions, views.worlds, torch.full_like(surface, 14))
    assert (only_ceiling.floor == -1).all() and (only_ceiling.wall == -1).all() and not only_ceiling.objects.any()


def test_scores_follow_the_slow_count() -> None:
    """Shares found and chance levels equal those of loops over captions, pictures and attributes."""
    generator = torch.Generator().manual_seed(0)
    count = 5
    sizes = {"kind": 6, "floor": 7, "wall": 6, "objects": 18}
    logits = {group: torch.randn(count, size, generator=generator) for group, size in sizes.items()}
    wanted = Attributes(
        kind=torch.stack([logits["kind"].argmax(1)[:3], torch.tensor([0, 1, 2])]).flatten()[:count],
        floor=torch.tensor([-1, 2, 3, -1, 0]),
        wall=logits["wall"].argmax(1),
        objects=torch.rand(count, 18, generator=generator) < 0.2,
    )

    def found(caption: int, picture: int) -> list[bool]:
        verdicts = []
        for group in ("kind", "floor", "wall"):
            value = int(getattr(wanted, group)[caption])
            if value >= 0:
                verdicts.append(int(logits[group][picture].argmax()) == value)
        return verdicts + [bool(logits["objects"][picture, i] > 0) for i in range(18) if wanted.objects[caption, i]]

    named = sum(len(found(i, i)) for i in range(count))
    others = [(i, j) for i in range(count) for j in range(count) if i != j]
    scores = attribute_scores(logits, wanted)
    assert scores.accuracy == pytest.approx(sum(sum(found(i, i)) for i in range(count)) / named)
    assert scores.complete == pytest.approx(sum(all(found(i, i)) for i in range(count)) / count)
    assert scores.chance == pytest.approx(sum(sum(found(i, j)) for i, j in others) / named / (count - 1))
    assert scores.chance_complete == pytest.approx(sum(all(found(i, j)) for i, j in others) / len(others))
    assert scores.groups["wall"] == 1.0
    assert attribute_scores(logits, wanted, ("wall",)).accuracy == 1.0


def test_nothing_named_counts_as_nothing_found() -> None:
    """Captions that ask for nothing neither help nor harm."""
    logits = {group: torch.zeros(2, size) for group, size in zip(GROUPS, (6, 7, 6, 18), strict=True)}
    nothing = torch.full((2,), -1)
    silent = Attributes(nothing, nothing, nothing, torch.zeros(2, 18, dtype=torch.bool))
    scores = attribute_scores(logits, silent)
    assert scores.groups == dict.fromkeys(GROUPS) and scores.accuracy == scores.complete == 0.0
    half = Attributes(torch.tensor([0, -1]), nothing, nothing, silent.objects)
    assert attribute_scores(logits, half).complete == 1.0
    alone = Attributes(half.kind[:1], nothing[:1], nothing[:1], silent.objects[:1])
    with pytest.raises(InputError, match="at least 2"):
        attribute_scores(logits, alone)


def test_training_keeps_its_budget_and_scores_itself() -> None:
    """A second of training takes steps, ends in evaluation mode and reports shares; a group it cannot tell is out."""
    trained = train_classifier(1.0, "cpu", 16, 32, chunk=4, heldout_pictures=4)
    assert not trained.network.training and 1 <= trained.seconds < 30
    assert set(trained.true_frames.groups) == set(GROUPS)
    for group, share in trained.true_frames.groups.items():
        assert (group in trained.groups_used) == (share is not None and share >= 0.9)
    assert 0 <= trained.true_frames.accuracy <= 1 and 0 <= trained.absent_rejected <= 1


def test_bad_budgets_and_sizes_are_refused() -> None:
    """The message names the number."""
    with pytest.raises(InputError, match="0 s"):
        train_classifier(0, "cpu", 16, 32)
    with pytest.raises(InputError, match="33x16"):
        train_classifier(1, "cpu", 16, 33)
