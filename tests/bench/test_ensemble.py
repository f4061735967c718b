from importlib.util import find_spec

import numpy as np
import pytest
import torch

from pythermo import _core
from pythermo.bench import ensemble as bench
from pythermo.models.losses import LOSSES
from pythermo.training.network import build_network


def as_array(one):
    return one.numpy().copy() if isinstance(one, torch.Tensor) else np.array(one)


SMALL = bench.Case("ConvNet", 2, 1, 8)


def test_the_plain_network_is_the_package_s():
    config, images = SMALL.configuration(), SMALL.images()
    (*weights,), head = bench.stacked_weights(config, images, members=1)
    x, y = images.train_images[:50], images.train_labels[:50]
    plain = bench.convnet_loss([one[0] for one in weights], head, x, y)
    expected = LOSSES["cross-entropy"](build_network(config, images)(x), y)
    assert plain.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        bench.vmap_step,
        pytest.param(
            bench.jax_step, marks=pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
        ),
    ],
)
def test_others_train_members_of_their_own_on_the_sphere(make):
    step = make(SMALL.configuration(), SMALL.images(), members=3)
    before = [as_array(one) for one in step()]
    after = [as_array(one) for one in step()]
    flat = np.concatenate([one.reshape(3, -1) for one in after], axis=1)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 1.0, rtol=1e-5)
    assert not any(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert len(np.unique(flat[:, 0])) == 3


def test_products_with_the_border_do_not_count():
    assert bench._taps((2, 2), kernel=3, stride=1, padding=1) == 16  # 4 of 9 for each of 4 pixels
    assert bench._taps((3, 3), kernel=3, stride=1, padding=0) == 9
    assert bench._taps((4, 4), kernel=1, stride=2, padding=0) == 4


def test_all_that_the_tables_show():
    steps = bench.measure_step(SMALL, rounds=1, others=True, seconds_per_turn=0.01)
    assert steps.members == _core.lanes_of_members()
    assert steps.bytes_of_member > 4 * 2 * 1530
    assert f"| ConvNet(2), 8x8x1 | {_core.chosen_instruction_set()} |" in bench.step_table([steps])
    kernels = bench.measure_kernels(SMALL, rounds=1, seconds_per_turn=0.01)
    assert [one.kernel for one in kernels] == [
        "convolution", "to weights", "normalization", "its gradients", "to images",
    ]  # fmt: skip
    # 128 images; 1 -> 2 channels at 8x8, 2 -> 4 at 8x8, 4 -> 8 at 4x4, 8 -> 16 at 2x2.
    taps = 22**2 * (1 * 2 + 2 * 4) + 10**2 * 4 * 8 + 4**2 * 8 * 16
    assert kernels[0].operations == 2.0 * 128 * taps * steps.members
    assert kernels[1].operations == kernels[0].operations
    assert kernels[4].operations == 2.0 * 128 * (taps - 22**2 * 2) * steps.members
    assert bench.kernel_table(kernels).count("\n") == 1 + len(kernels)


def test_a_time_that_is_not_there_is_a_dash():
    result = bench.StepResult(
        SMALL, "any", 16, lanes=1e-4, torch=3e-3, vmap=None, jax=2e-3, bytes_of_member=10**6
    )
    assert "| 3 | - | 2 | 0.1 | 30.00 | 1.0 |" in bench.step_table([result])


def test_an_instruction_set_is_chosen_for_a_while():
    before = _core.chosen_instruction_set()
    with bench.instruction_set(_core.instruction_sets()[0]):
        assert _core.chosen_instruction_set() == _core.instruction_sets()[0]
    assert _core.chosen_instruction_set() == before
    assert bench.instruction_sets()[0] == before
    assert set(bench.instruction_sets()) <= {before, "x86-64-v3"}
