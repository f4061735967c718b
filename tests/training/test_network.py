import math

import pytest
import torch
from torch import nn

import pythermo as pt
from pythermo.models.losses import constant_prediction_loss, squared_error
from pythermo.training.network import build_network


class Perceptron(nn.Module):
    """A user's network: scale-invariant unless its last layer is trained."""

    def __init__(self, in_channels, num_classes, hidden=16):
        super().__init__()
        self.hidden = nn.Linear(64 * in_channels, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden, eps=1e-12, affine=False, track_running_stats=False)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.hidden(x.flatten(1)))))


def not_the_head(name, param):
    return not name.startswith("head")


def nothing(name, param):
    return False


A_NUMBER = 3
HERE = "user_networks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Make this file a module of the user's."""
    import sys

    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])


def config(changes=None, **model):
    """Return a short run of a network, some of its dotted keys changed."""
    of_network = {f"model.{key}": value for key, value in model.items()}
    return pt.RunConfig.from_toml("""
        lr = 0.05
        [model]
        name = "ConvNet"
        width = 2
        [data]
        name = "digits"
        [training]
        iterations = 20
        [measurement]
        count = 2
        window = 5
        gradients = 3
        """).changed(**of_network, **(changes or {}))


def own(name, **keys):
    return {"name": "own", "path": name if ":" in name else f"{HERE}:{name}", **keys}


def built(config):
    return build_network(config, pt.data.load("digits"))


def test_a_network_of_the_user_s_in_a_run():
    mine = config(**own("Perceptron", arguments={"hidden": 8}, trained=f"{HERE}:not_the_head"))
    found = pt.run(mine, report=lambda *_: None)
    assert found.attrs["weights"] == 64 * 8
    assert (found["loss"] > 0.0).all()
    assert mine.model.title == "Perceptron(8)"
    assert pt.RunConfig.from_toml(mine.to_toml()) == mine


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (own("Perceptron"), r"model.path: .* is NOT scale-invariant"),
        (own("Perceptron", trained=f"{HERE}:nothing"), "no parameter of .* is trained"),
        (own("Missing"), "model.path: user_networks:Missing cannot be imported"),
        (own("no_such_package:Net"), "PYTHONPATH must hold the folder"),
        (own("A_NUMBER"), "model.path: .* must be callable, not a int"),
        (own("Perceptron", arguments={"depth": 3}), r"model.arguments: .*\['depth'\]"),
        (own("nothing_at_all"), "must return a torch.nn.Module, not a str"),
    ],
)
def test_wrong_networks_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        built(config(**model))


def nothing_at_all(in_channels, num_classes):
    return "a network"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "ConvNet"}, "model.width: Field required"),
        ({"width": 2}, "model: .*discriminator 'name'"),
        ({"name": "own"}, "model.path: Field required"),
        ({"name": "own", "path": "a:b", "width": 3}, "model.width: unknown key"),
        ({"name": "own", "path": "ab"}, r"model.path: .*pattern.* \(given: 'ab'\)"),
        ({"name": "ConvNet", "width": 2, "arguments": {"x": 1}}, "model.arguments: unknown key"),
        ({"name": "VGG", "width": 2}, "model: .*'VGG'.*'ConvNet', 'ResNet18', 'own'"),
    ],
)
def test_wrong_tables_of_networks_are_named(model, message):
    values = config().model_dump(exclude_unset=True)
    with pytest.raises(ValueError, match=message):
        pt.RunConfig.checked({**values, "model": model})


class Bare(nn.Module):
    """Parameters of its own, which have no reset_parameters, and a head that is not trained."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(8, 64 * in_channels))
        self.head = nn.Parameter(torch.randn(num_classes, 8), requires_grad=False)
        self.norm = nn.BatchNorm1d(8, eps=1e-12, affine=False, track_running_stats=False)

    def forward(self, x):
        return torch.relu(self.norm(x.flatten(1) @ self.hidden.T)) @ self.head.T


def test_bare_parameters_are_those_of_the_seed():
    def bare(seed, global_seed):
        torch.manual_seed(global_seed)
        return built(config({"training.initial_seed": seed}, **own("Bare")))

    one, same, other = bare(1, 5), bare(1, 6), bare(2, 5)
    for name in ("hidden", "head"):
        assert torch.equal(getattr(one, name), getattr(same, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))


def test_the_head_goes_with_the_loss():
    for loss, norm in (("cross-entropy", 10.0), ("mse", 1.5)):
        model = built(config({"training.loss": loss}))
        assert float(model.head.weight.norm()) == pytest.approx(norm, rel=1e-6)


def test_squared_errors_are_summed_over_classes():
    logits, labels = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.5, 0.0]]), torch.tensor([0, 1])
    assert float(squared_error(logits, labels)) == pytest.approx((4.0 + 0.5) / 2)
    assert float(squared_error(logits, labels, reduction="sum")) == pytest.approx(4.5)


def test_the_best_constant_prediction():
    even, uneven = torch.arange(10).repeat(3), torch.tensor([0, 0, 0, 1])
    assert constant_prediction_loss("cross-entropy", even) == pytest.approx(math.log(10))
    assert constant_prediction_loss("mse", even) == pytest.approx(0.9)
    # No outputs do better than the shares of the labels.
    for name, outputs in (
        ("cross-entropy", torch.tensor([0.75, 0.25]).log()),
        ("mse", torch.tensor([0.75, 0.25])),
    ):
        loss = pt.models.losses.LOSSES[name]
        at_best = float(loss(outputs.repeat(4, 1).double(), uneven))
        assert constant_prediction_loss(name, uneven) == pytest.approx(at_best)
        assert float(loss(outputs.repeat(4, 1).double() + torch.tensor([0.1, 0.0]), uneven)) > at_best


def test_a_run_with_squared_errors_learns():
    mse = config({"training.loss": "mse", "training.iterations": 60})
    found = pt.run(mse, report=lambda *_: None)
    assert float(found["loss"][-1]) < float(found["loss"][0])
    assert found.attrs["constant_loss"] == pytest.approx(0.9, abs=0.01)
