"""Progress never goes back, and the time left follows what was seen."""

from __future__ import annotations

import pytest

from omni_gen3d.kit.estimate import Estimate, in_words

SECONDS = {"a": 2.0, "b": 6.0, "c": 2.0}


def test_share_and_time_left_follow_the_stages():
    """Half the work in twice the time leaves the other half in twice the time."""
    estimate = Estimate(SECONDS, now=100.0)
    estimate.advance("a", 0.5, 101.0)
    assert estimate.fraction == pytest.approx(0.1)
    assert estimate.seconds_left == pytest.approx(9.0)
    estimate.advance("b", 0.5, 110.0)
    assert estimate.fraction == pytest.approx(0.5)
    assert estimate.seconds_left == pytest.approx(10.0)
    estimate.advance("c", 1.0, 120.0)
    assert estimate.fraction == pytest.approx(1.0) and estimate.seconds_left == 0


def test_the_share_never_falls():
    """A stage that nobody knew comes after the last one seen; one that starts again holds the bar where it is."""
    estimate = Estimate(SECONDS, now=0.0)
    estimate.advance("unknown", 0.5, 0.5)
    assert estimate.fraction == pytest.approx(0.5 / 11)
    estimate.advance("b", 1.0, 8.0)
    before = estimate.fraction
    estimate.advance("unheard of", 0.0, 9.0)
    estimate.advance("a", 0.0, 9.0)
    assert estimate.fraction >= before


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, ""), (2, "about 5 s left"), (31, "about 30 s left"), (170, "about 3 min left")]
)
def test_words(seconds, words):
    assert in_words(seconds) == words
