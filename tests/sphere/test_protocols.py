import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pythermo import sphere
from pythermo.sphere.protocols import PROTOCOLS, Sphere

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


@each_protocol
def test_the_simulator_makes_the_step_that_the_protocol_says(protocol):
    """One sample x and weights w of norm 2: the gradient of <x, w>^2 / |w|^2 is tangent."""
    x, w = np.array([1.0, 0.0, 0.0]), np.array([1.2, 1.6, 0.0])
    decay = 0.3 if protocol.in_full_space else 0.0
    if not protocol.in_full_space:
        w = w / 2.0
    norm = np.linalg.norm(w)
    system = sphere.Quadratics(x[None])
    found = sphere.simulate(system, 0.1, 1, start=w, protocol=protocol.name, weight_decay=decay)
    gradient = system.gradients(w)[0]
    expected = w - protocol.step_size(0.1, norm) * (gradient + decay * w)
    if not protocol.in_full_space:
        expected /= np.linalg.norm(expected)
    assert_allclose(found["final_weights"].values[0, 0], expected, rtol=1e-14)


@each_protocol
def test_temperatures_are_those_of_the_effective_learning_rate_at_the_radius(protocol):
    """T = effective_lr sigma^2 / 2, and where the norm is free p V = (D - 1) T / 2: arXiv 2511.07308."""
    lr, variance, dim, decay = np.array([1e-3, 0.1]), 0.49, 5, 0.03
    temperature = protocol.temperature(lr, variance, dim, decay)
    radius = protocol.radius(lr, variance, dim, decay)
    assert_allclose(temperature, protocol.effective_lr(lr, radius) * variance / 2.0, rtol=1e-14)
    if protocol.in_full_space:
        assert_allclose(decay * radius**2 / 2.0, (dim - 1) * temperature / 2.0, rtol=1e-14)


def test_a_sphere_of_another_radius():
    assert Sphere(2.0).temperature(0.1, 0.5, 3, 0.0) == 0.1 / 4.0 * 0.5 / 2.0
    assert Sphere(2.0).radius(0.1, 0.5, 3, 0.0) == 2.0


@each_protocol
def test_steps_may_be_tensors(protocol):
    lr, norm = torch.tensor([0.1, 0.2]), torch.tensor([2.0, 3.0])
    torch.testing.assert_close(
        protocol.step_size(lr, norm), torch.tensor(protocol.step_size(lr.numpy(), norm.numpy()))
    )
    assert isinstance(protocol.effective_lr(lr, norm), torch.Tensor)


GOOD = {"lr": 0.1, "weight_decay": 0.1, "sigma": 1.0, "dim": 3, "protocol": "fixed-lr"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"protocol": "fixed_lr"},
            ValueError,
            "protocol: must be one of fixed-lr, fixed-elr, not 'fixed_lr'",
        ),
        ({"protocol": "sphere"}, ValueError, "protocol: must be one of fixed-lr, fixed-elr, not 'sphere'"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay: must be positive and finite, not -0.1"),
        ({"weight_decay": 0.0}, ValueError, "weight_decay: must be positive and finite, not 0.0"),
        ({"weight_decay": np.nan}, ValueError, "weight_decay: must be positive and finite, not nan"),
        ({"sigma": 0.0}, ValueError, "sigma: must be positive and finite, not 0.0"),
        ({"sigma": -1.0}, ValueError, "sigma: must be positive and finite, not -1.0"),
        ({"sigma": np.nan}, ValueError, "sigma: must be positive and finite, not nan"),
        ({"sigma": "one"}, TypeError, "sigma: must be a number"),
        ({"dim": 1}, ValueError, "dim: must be an integer from 2"),
        ({"dim": 2.5}, TypeError, "dim: must be an int, not 2.5"),
        ({"dim": np.nan}, TypeError, "dim: must be an int, not nan"),
        ({"lr": [0.1, 0.0]}, ValueError, "lr: must be positive and finite, not 0.0"),
        ({"lr": np.nan}, ValueError, "lr: must be positive and finite, not nan"),
        ({"lr": np.inf}, ValueError, "lr: must be positive and finite, not inf"),
    ],
)
def test_the_ideal_gas_refuses(change, error, message):
    with pytest.raises(error, match=message):
        sphere.ideal_gas(**{**GOOD, **change})


def test_the_ideal_gas_keeps_the_shape_of_the_learning_rates():
    gas = sphere.ideal_gas(**{**GOOD, "lr": [[0.1, 0.2, 0.3]]})
    assert gas.temperature.shape == gas.radius.shape == gas.volume.shape == (1, 3)


@pytest.mark.parametrize("function", [sphere.von_mises_fisher_energy, sphere.von_mises_fisher_entropy])
def test_von_mises_fisher_refuses(function):
    for temperature in (0.0, -1.0, np.nan, [0.1, -0.1]):
        with pytest.raises(ValueError, match="temperature: must be positive and finite, not"):
            function(temperature, 3)
    with pytest.raises(ValueError, match="dim: must be an integer from 2"):
        function(0.1, 1)
