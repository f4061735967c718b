from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pythermo.bench import training as bench
from pythermo.training.network import build_network
from pythermo.training.trainer import Trainer


def small_run():
    config = bench.configuration(30, 3, 3, window=12, width=2)
    return config, bench.random_images(200, 40)


def test_both_ways_of_training_do_the_same_work():
    config, images = small_run()
    ours, published = bench.Watched(config, images), bench.Published(config, images)
    assert torch.equal(ours.weights(), published.weights())
    start = ours.weights()
    for iteration in (0, 1, 2):
        for run in (ours, published):
            bench.advance(run, iteration)
        moved = (ours.weights() - start).norm()
        # float32 in another order of sums; where a ReLU or a maximum is on the edge it takes the other side,
        # which is some 1e-2 of a gradient.
        assert (ours.weights() - published.weights()).norm() <= 0.03 * moved
        one, other = ours.rows[-1], published.rows[-1]
        for name in ("loss", "test_loss"):
            assert one[name] == pytest.approx(other[name], rel=1e-3)
        for name in ("snr", "full_grad_norm", "mean_grad_norm", "mean_noise_norm", "rms_noise_norm"):
            assert one[name] == pytest.approx(other[name], rel=0.03)
    assert moved > 0


def test_both_ways_of_training_find_the_same_entropy():
    config, images = small_run()
    ours, published = bench.Watched(config, images), bench.Published(config, images)
    while ours.iteration < 17:
        ours.step()
        published.window.append(ours.weights())
    published.iteration = 17
    for run in (ours, published):
        run.measure()
    # pythermo squares differences in float32: 1e-7 of a length, times D = 1 566.
    np.testing.assert_allclose(ours.rows[-1]["entropy"], published.rows[-1]["entropy"], rtol=0, atol=2e-4)
    assert np.isfinite(ours.rows[-1]["entropy"]).all()


def test_the_entropy_waits_for_a_full_window():
    config, images = small_run()
    for run in (bench.Watched(config, images), bench.Published(config, images)):
        for iteration, full in ((10, False), (17, True)):  # two that are measured
            bench.advance(run, iteration)
            assert np.isfinite(run.rows[-1]["entropy"]).all() == full
            assert np.isnan(run.rows[-1]["entropy"]).all() != full


def test_watching_does_not_change_a_run():
    config, images = small_run()
    watched, trainer = bench.Watched(config, images), Trainer(config, images)
    for run in (watched, trainer):
        bench.advance(run, 5)
    assert torch.equal(watched.weights(), trainer.weights())
    np.testing.assert_equal(watched.rows, trainer.rows)


def test_the_network_of_the_published_loop_is_the_same_function():
    config, images = small_run()
    model = build_network(config, images).double()
    x = images.test_images.double()
    # float64: sums in another order.
    torch.testing.assert_close(bench.PlainConvNet(model)(x), model(x), rtol=1e-10, atol=1e-10)


def test_every_phase_of_a_run_is_timed_and_none_twice(monkeypatch):
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=count().__next__))
    config = bench.configuration(3, 2, 2, window=2, width=2)
    for result in bench.measure(config, bench.random_images(200, 40)):
        assert all(getattr(result, phase) > 0 for phase in bench.Phase)
        # Each reading of the clock is one later; those around a measured stretch are the loop's.
        assert result.training + result.measuring <= result.total
