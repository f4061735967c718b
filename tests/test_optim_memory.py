"""ProjectedSGD owns nothing: whatever is done to weights and gradients between steps, a step is the right one."""

import io
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import normal
from torch import nn

import pythermo as pt

LR, RADIUS = 0.25, 1.5
SHAPES = [(3, 4, 2, 2), (5, 5), (5, 5), (7,), (1,), (2, 3, 1, 1)]


def sgd_and_normalization(params: list[nn.Parameter]) -> list[torch.Tensor]:
    """Return where torch.optim.SGD leads, in float64, and a normalization of what is trained."""
    copies = []
    for param in params:
        copies.append(nn.Parameter(param.detach().double().clone(), requires_grad=param.requires_grad))
        # torch.optim.SGD would move what was frozen after it got a gradient.
        if param.requires_grad and param.grad is not None:
            copies[-1].grad = param.grad.double().clone()
    torch.optim.SGD(copies, lr=LR).step()
    trained = [copy for copy in copies if copy.requires_grad]
    if any(copy.grad is not None and copy.grad.any() for copy in trained):
        pt.project_(trained, RADIUS)
    return [copy.detach() for copy in copies]


def assert_steps_rightly(optimizer: pt.ProjectedSGD, params: list[nn.Parameter]) -> None:
    expected = sgd_and_normalization(params)
    grads = [None if param.grad is None else param.grad.clone() for param in params]
    optimizer.step()
    for param, value, grad in zip(params, expected, grads, strict=True):
        # Three roundings per element and one of the scale, relative to the radius.
        atol = 4 * torch.finfo(param.dtype).eps * RADIUS
        torch.testing.assert_close(param.detach().double(), value, rtol=0, atol=atol)
        assert (grad is None) == (param.grad is None)
        assert grad is None or torch.equal(param.grad, grad)


def made(shapes=SHAPES, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    params = [nn.Parameter(normal(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(shapes)]
    pt.project_(params, RADIUS)
    return params


def backward(params: list[nn.Parameter], seed: int = 0) -> None:
    losses = [
        (param * normal(*param.shape, seed=100 * seed + i, dtype=param.dtype)).sum()
        for i, param in enumerate(params)
        if param.requires_grad
    ]
    if losses:
        torch.stack(losses).sum().backward()


class Training:
    """An optimizer, and what users do to its parameters between steps; `of` chooses one of them."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.params = made(dtype=dtype)
        self.params[-1].requires_grad_(False)
        self.optimizer = pt.ProjectedSGD(self.params, lr=LR, radius=RADIUS)
        self.steps = 0
        self.saved = self.backup()

    def backup(self) -> list[torch.Tensor]:
        return [param.data.clone() for param in self.params]

    def step(self, of: int) -> None:
        self.steps += 1
        backward(self.params, self.steps)
        assert_steps_rightly(self.optimizer, self.params)

    def step_without_one_gradient(self, of: int) -> None:
        self.step(of)
        self.params[of].grad = None
        assert_steps_rightly(self.optimizer, self.params)

    def zero_grad(self, of: int) -> None:
        self.optimizer.zero_grad()

    def zero_grad_in_place(self, of: int) -> None:
        self.optimizer.zero_grad(set_to_none=False)

    def replace(self, of: int) -> None:
        self.params[of].data = normal(*self.params[of].shape, seed=of, dtype=self.params[of].dtype)

    def transpose(self, of: int) -> None:
        self.params[1].data = self.params[1].data.t()

    def turn_channels_last(self, of: int) -> None:
        for param in self.params:
            if param.ndim == 4:
                param.data = param.data.to(memory_format=torch.channels_last)

    def make_contiguous(self, of: int) -> None:
        for param in self.params:
            param.data = param.data.contiguous()

    def slice(self, of: int) -> None:
        data = self.params[of].data
        self.params[of].data = torch.stack([data, data + 1.0], dim=-1)[..., 0]

    def swap(self, of: int) -> None:
        one, other = self.params[1:3]
        one.data, other.data = other.data, one.data

    def back_up(self, of: int) -> None:
        self.saved = self.backup()

    def restore(self, of: int) -> None:
        for param, saved in zip(self.params, self.saved, strict=True):
            param.data = saved.to(param.dtype)
        self.saved = self.backup()  # or the next steps would move it

    def copy_back(self, of: int) -> None:
        with torch.no_grad():
            for param, saved in zip(self.params, self.saved, strict=True):
                param.copy_(saved)

    def freeze_or_thaw(self, of: int) -> None:
        self.params[of].requires_grad_(not self.params[of].requires_grad)

    def share(self, of: int) -> None:
        nn.ParameterList(self.params).share_memory()

    def change_dtype(self, of: int) -> None:
        other = torch.float64 if self.params[0].dtype is torch.float32 else torch.float32
        nn.ParameterList(self.params).to(other)

    def lay_a_gradient_otherwise(self, of: int) -> None:
        grad = self.params[of].grad
        if grad is not None and grad.ndim > 1:
            self.params[of].grad = grad.transpose(0, 1).contiguous().transpose(0, 1)

    def load_state_dict(self, of: int) -> None:
        state = self.optimizer.state_dict()
        self.optimizer = pt.ProjectedSGD(self.params, lr=0.1)
        self.optimizer.load_state_dict(state)


OPERATIONS: dict[str, Callable[[Training, int], None]] = {
    name: operation
    for name, operation in vars(Training).items()
    if not name.startswith("_") and name != "backup"
}


@pytest.mark.filterwarnings("ignore:grad and param do not obey the gradient layout contract")
@settings(max_examples=200)
@given(
    dtype=st.sampled_from([torch.float32, torch.float64]),
    operations=st.lists(
        st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, len(SHAPES) - 1)), max_size=12
    ),
)
def test_always_torch_sgd_and_a_normalization(dtype, operations):
    training = Training(dtype)
    training.step(0)
    for name, of in operations:
        OPERATIONS[name](training, of)
    if any(param.requires_grad for param in training.params):
        training.step(0)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_channels_last_after_the_optimizer_was_made(set_to_none):
    model = pt.models.initialize_(pt.models.ConvNet(4))
    params = pt.models.trained_parameters(model)
    optimizer = pt.ProjectedSGD(params, lr=LR, radius=RADIUS)
    backward(params)
    model.to(memory_format=torch.channels_last)
    assert not params[1].is_contiguous()
    for seed in range(3):
        optimizer.zero_grad(set_to_none=set_to_none)
        backward(params, seed)
        before = params[1].detach().clone()
        assert_steps_rightly(optimizer, params)
        assert not torch.equal(params[1], before)


def test_weights_that_were_transposed_in_place():
    linear = nn.Linear(6, 6, bias=False)
    optimizer = pt.ProjectedSGD(linear.parameters(), lr=LR, radius=RADIUS)
    backward([linear.weight])
    linear.weight.data = linear.weight.data.t()
    assert_steps_rightly(optimizer, [linear.weight])


def test_weights_that_are_shared_between_processes_by_their_owner():
    params = made()
    optimizer = pt.ProjectedSGD(params, lr=LR, radius=RADIUS)
    module = nn.ParameterList(params).share_memory()
    others = [param.detach() for param in module]
    backward(params)
    assert_steps_rightly(optimizer, params)
    assert all(param.is_shared() for param in params)
    assert all(torch.equal(param, other) for param, other in zip(params, others, strict=True))


def test_a_layer_that_is_used_twice():
    one, other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    model = nn.Sequential(one, other)
    optimizer = pt.ProjectedSGD(model.parameters(), lr=LR, radius=RADIUS)
    other.weight = one.weight  # the optimizer still has the weights that are not used any more
    backward([one.weight])
    assert_steps_rightly(optimizer, optimizer.param_groups[0]["params"])
    tied = pt.ProjectedSGD(model.parameters(), lr=LR, radius=RADIUS)
    assert len(tied.param_groups[0]["params"]) == 1
    assert_steps_rightly(tied, [one.weight])


def test_two_parameters_with_one_memory_are_refused():
    params = made()
    optimizer = pt.ProjectedSGD(params, lr=LR, radius=RADIUS)
    params[2].data = params[1].data
    backward(params)
    before = [param.detach().clone() for param in params]
    with pytest.raises(ValueError, match="weights: two tensors share memory; each must have its own"):
        optimizer.step()
    assert all(torch.equal(param, was) for param, was in zip(params, before, strict=True))


def test_a_parameter_listed_twice_is_refused():
    one, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
    message = r"params: parameter number 2, of shape \[3\], is listed twice; list each once"
    for params in ([one, other, one], [{"params": [one, other]}, {"params": [one]}]):
        with pytest.raises(ValueError, match=message):
            pt.ProjectedSGD(params, lr=0.1)
    with pytest.raises(ValueError, match=r"params: parameter b, of shape \[3\], is listed twice"):
        pt.ProjectedSGD([("a", one), ("b", one)], lr=0.1)
    optimizer = pt.ProjectedSGD([one], lr=0.1)
    with pytest.raises(ValueError, match="is listed twice"):
        optimizer.add_param_group({"params": one})
    assert len(optimizer.param_groups) == 1


def test_a_frozen_head_stays_and_is_outside_the_norm():
    body, head = nn.Parameter(normal(4, 4)), nn.Parameter(normal(3, 4, seed=1), requires_grad=False)
    optimizer = pt.ProjectedSGD([body, head], lr=LR)
    backward([body])
    head.grad = torch.full_like(head, float("nan"))  # of before it was frozen
    before = head.detach().clone()
    optimizer.step()
    assert torch.equal(head, before)
    assert float(body.detach().norm()) == pytest.approx(1.0, rel=1e-6)


def test_parameters_that_are_all_frozen_are_left_alone():
    head = nn.Parameter(normal(3), requires_grad=False)
    before = head.detach().clone()
    pt.ProjectedSGD([head], lr=LR).step()
    assert torch.equal(head, before)


@pytest.mark.parametrize("retraction", ["projection", "exponential"])
def test_a_learning_rate_of_zero_leaves_the_weights(retraction):
    params = made(dtype=torch.float32)
    optimizer = pt.ProjectedSGD(params, lr=0.0, radius=3.0, retraction=retraction)
    backward(params)
    before = [param.detach().clone() for param in params]
    optimizer.step()
    assert all(torch.equal(param, was) for param, was in zip(params, before, strict=True))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step == 0))
    optimizer.step(), scheduler.step(), optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_groups_of_any_layout_are_restored_when_one_is_refused():
    one, other = nn.Parameter(normal(4, 6).t()), nn.Parameter(normal(5, seed=1))
    optimizer = pt.ProjectedSGD([{"params": [one]}, {"params": [other]}], lr=LR)
    backward([one, other])
    other.grad[3] = float("inf")
    before = one.detach().clone()
    with pytest.raises(ValueError, match="grad: element 3 is inf"):
        optimizer.step()
    assert torch.equal(one, before)


def layer_after_a_step() -> nn.Linear:
    linear, other = nn.Linear(10, 10, bias=False), nn.Linear(1000, 1000, bias=False)
    optimizer = pt.ProjectedSGD([linear.weight, other.weight], lr=0.1)
    backward([linear.weight, other.weight])
    optimizer.step()
    return linear


def test_one_layer_is_saved_alone():
    file = io.BytesIO()
    torch.save(layer_after_a_step(), file)
    assert file.tell() < 10_000  # 100 weights have 400 bytes, of the other layer 4 000 000


def test_safetensors_take_a_model_after_a_step(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    linear = layer_after_a_step()
    other = nn.Linear(20, 10, bias=False)
    model = nn.Sequential(linear, other)
    optimizer = pt.ProjectedSGD(model.parameters(), lr=0.1)
    backward(list(model.parameters()))
    optimizer.step()
    safetensors.save_model(model, str(tmp_path / "model.safetensors"))
    loaded = safetensors.load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
