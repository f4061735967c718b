import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pythermo.ops.minibatches import minibatches
from pythermo.training.batches import (
    BatchesOnDevice,
    Draw,
    EpochBatches,
    IidBatches,
    Stream,
    iid_batches,
)

CPU = torch.device("cpu")


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


big = st.integers(0, 2**63 - 1)


@given(
    population=st.one_of(st.integers(1, 100), st.integers(1, 2**32 - 1)),
    size=st.integers(1, 300),
    seed=big,
    step=big,
    index=big,
    member=big,
)
def test_minibatches_are_those_that_numpy_draws(population, size, seed, step, index, member):
    draws = [Draw(seed, stream, step, index, member) for stream in Stream]
    found = iid_batches(population, size, draws)
    for draw, batch in zip(draws, found, strict=True):
        np.testing.assert_array_equal(batch, draw.generator().integers(population, size=size))


@pytest.mark.parametrize("population", [0, -1, 2**32])
def test_what_cannot_be_drawn_from_is_refused(population):
    with pytest.raises((ValueError, TypeError), match="population"):
        minibatches(torch.zeros(1, 5, dtype=torch.int64), population, 3)


def test_iid_batches_cover_the_population_evenly():
    batches = IidBatches(population=10, size=100, seed=0)
    counts = np.bincount(batches.of_steps(range(200)).flatten(), minlength=10)
    # chi-square with 9 degrees of freedom: mean 9, 99.9 % below 27.9
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9


def test_epochs_are_permutations():
    batches = BatchesOnDevice(EpochBatches(population=10, size=3, seed=0), CPU)
    for epoch in range(3):
        seen = np.concatenate([batches.at(3 * epoch + batch) for batch in range(3)])
        assert len(set(seen.tolist())) == 9
    again = EpochBatches(population=10, size=3, seed=0)
    assert again.of_steps(range(7, 8))[0].tolist() == batches.at(7).tolist()


def test_a_step_has_its_batch_however_one_comes_to_it():
    batches = IidBatches(population=100, size=7, seed=3)
    ahead = BatchesOnDevice(batches, CPU)
    for step in (0, 1, 511, 512, 3, 2000):
        assert torch.equal(ahead.at(step), batches.of_steps(range(step, step + 1))[0])


def test_epochs_need_a_batch_at_least():
    with pytest.raises(ValueError, match="more than the 10 training images"):
        EpochBatches(population=10, size=11, seed=0)
