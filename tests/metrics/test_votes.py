"""Choices between two answers: items are what is counted, raters are no items."""

import numpy as np
import pytest

from ppg_jax.metrics import votes
from ppg_jax.metrics.significance import binomial_p
from ppg_jax.metrics.votes import Votes


def of(matrix) -> Votes:
    """A row of an item, a column of a rater; None is no vote."""
    known = [
        (item, rater, won)
        for item, row in enumerate(matrix)
        for rater, won in enumerate(row)
        if won is not None
    ]
    return Votes(*map(list, zip(*known, strict=True)))


def test_an_item_counts_once_by_its_majority():
    matrix = [[1, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, None], [1, None, None]]
    assert votes.sign_test(of(matrix)) == (3, 1, 1, binomial_p(3, 4))


def test_three_raters_who_agree_are_no_three_items():
    """60 of 100 items, by one rater or by three who say the same: the same p; as 180 of
    300 independent votes it would be a hundred times smaller."""
    one = [[i < 60] for i in range(100)]
    three = [row * 3 for row in one]
    assert votes.sign_test(of(three)).p == votes.sign_test(of(one)).p
    assert binomial_p(180, 300) < 0.02 * votes.sign_test(of(one)).p


def test_ties_alone_show_nothing():
    assert votes.sign_test(of([[1, 0], [0, 1]])) == (0, 0, 2, 1.0)
    with pytest.raises(ValueError, match="no votes"):
        votes.sign_test(Votes([], [], []))


def test_an_interval_is_as_wide_as_raters_differ():
    rng = np.random.default_rng(0)
    alike = rng.random((100, 4)) < 0.6
    differ = rng.random((100, 4)) < np.array([0.2, 0.9, 0.4, 0.9])
    narrow, wide = (votes.share(of(m.tolist())) for m in (alike, differ))
    assert narrow.value == pytest.approx(alike.mean())
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_an_interval_of_one_rater_is_of_the_items():
    found = votes.share(of([[i < 60] for i in range(100)]), resamples=4000)
    error = np.sqrt(0.6 * 0.4 / 100)
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)


def test_kappa_of_fleiss_example():
    """Ten subjects, fourteen raters, five categories are Fleiss's own; with two, by
    hand: 0.75 agree on average, 0.5 by chance."""
    assert votes.fleiss_kappa(of([[1, 1], [0, 0], [1, 0], [1, 1]])) == pytest.approx(
        (0.75 - (0.625**2 + 0.375**2)) / (1 - (0.625**2 + 0.375**2))
    )
    assert votes.fleiss_kappa(of([[1, 1], [0, 0]])) == 1
    assert votes.fleiss_kappa(of([[1, 0], [0, 1]])) == -1
    assert votes.fleiss_kappa(of([[1, 1], [1, 1]])) is None
    assert votes.fleiss_kappa(of([[1], [0]])) is None


def test_raters_who_toss_coins_agree_by_chance():
    tossed = np.random.default_rng(0).random((5000, 3)) < 0.5
    assert abs(votes.fleiss_kappa(of(tossed.tolist()))) < 0.03


@pytest.mark.parametrize("share", [0.5, 0.6])
def test_power_is_how_often_the_test_finds_it(share):
    rng = np.random.default_rng(0)
    won = rng.binomial(200, share, size=4000)
    found = np.mean([binomial_p(int(w), 200) <= 0.05 for w in won])
    assert votes.power(200, share) == pytest.approx(found, abs=0.02)


def test_what_200_items_can_show():
    least = votes.detectable(200)
    assert votes.power(200, least) >= 0.8 > votes.power(200, least - 0.01)
    assert 0.59 <= least <= 0.61
    assert votes.detectable(3) is None


def test_the_papers_53_percent_of_600_votes_are_no_evidence():
    assert binomial_p(318, 600) == pytest.approx(0.153, abs=5e-4)
    assert binomial_p(336, 600) == pytest.approx(0.0037, abs=1e-4)


def test_resamples_without_a_vote_tell_nothing():
    """Of two items with a rater each: one drawn, and the rater of the other."""
    found = votes.share(Votes([1, 2], ["x", "y"], [True, False]))
    assert 0 <= found.low <= found.value == 0.5 <= found.high <= 1
