import numpy as np
import pytest

from pythermo.training.batches import Draw, EpochBatches, IidBatches, Stream


def test_each_draw_has_numbers_of_its_own():
    draws = [
        Draw(seed, stream, step, index, member).generator().integers(2**62)
        for seed in (0, 1)
        for stream in (Stream.TRAINING, Stream.MEASUREMENT)
        for step in (0, 1)
        for index in (0, 1)
        for member in (0, 1)
    ]
    assert len(set(draws)) == 32
    one, again = (Draw(0, Stream.TRAINING, 5).generator().integers(2**62) for _ in range(2))
    assert one == again


def test_iid_batches_cover_the_population_evenly():
    batches = IidBatches(population=10, size=100, seed=0)
    counts = np.bincount(np.concatenate([batches.at(step) for step in range(200)]), minlength=10)
    # chi-square with 9 degrees of freedom: mean 9, 99.9 % below 27.9
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9


def test_epochs_are_permutations():
    batches = EpochBatches(population=10, size=3, seed=0)
    for epoch in range(3):
        seen = np.concatenate([batches.at(3 * epoch + batch) for batch in range(3)])
        assert len(set(seen.tolist())) == 9
    again = EpochBatches(population=10, size=3, seed=0)
    assert again.at(7).tolist() == batches.at(7).tolist()
    with pytest.raises(ValueError, match="more than the 10 training images"):
        EpochBatches(population=10, size=11, seed=0)
