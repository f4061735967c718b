import copy
import pickle

import pytest
import torch
from reference import exponential_step, normal, projected_step, sphere_point
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook

import pythermo as pt


def network(seed: int = 0) -> nn.Module:
    model = pt.models.ConvNet(2, in_channels=1)
    return pt.models.initialize_(model, seed=seed)


def trained(model: nn.Module) -> list[nn.Parameter]:
    return pt.models.trained_parameters(model)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(10, (32,), generator=torch.Generator().manual_seed(seed))
    return normal(32, 1, 8, 8, seed=seed), labels


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def backward(model: nn.Module, seed: int = 0) -> None:
    images, labels = batch(seed)
    cross_entropy(model(images), labels).backward()


@pytest.mark.parametrize(
    ("retraction", "plain"), [("projection", projected_step), ("exponential", exponential_step)]
)
@pytest.mark.parametrize("set_to_none", [True, False])
def test_follows_the_plain_step(retraction, plain, set_to_none):
    model = network()
    optimizer = pt.ProjectedSGD(trained(model), lr=0.125, radius=1.0, retraction=retraction)
    for step in range(5):
        optimizer.zero_grad(set_to_none=set_to_none)
        backward(model, step)
        before = flat(trained(model))
        grad = flat(param.grad for param in trained(model))
        optimizer.step()
        expected = plain(before, grad, 0.125, 1.0)
        torch.testing.assert_close(flat(trained(model)).double(), expected, rtol=0, atol=5e-7)
        assert torch.equal(flat(param.grad for param in trained(model)), grad)


def test_how_gradients_are_cleared_makes_no_difference():
    results = []
    for set_to_none in (True, False):
        model = network()
        optimizer = pt.ProjectedSGD(trained(model), lr=0.1)
        for step in range(3):
            optimizer.zero_grad(set_to_none=set_to_none)
            backward(model, step)
            optimizer.step()
        results.append(flat(trained(model)))
    assert torch.equal(*results)


def test_parameters_and_gradients_stay_what_and_where_they_are():
    model = network()
    params = trained(model)
    backward(model)
    grads = [param.grad for param in params]
    places = [tensor.data_ptr() for tensor in (*params, *grads)]
    values = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = pt.ProjectedSGD(params, lr=0.1)
    assert all(torch.equal(values[name], value) for name, value in model.state_dict().items())
    optimizer.step()
    assert all(type(param) is nn.Parameter for param in params)
    assert all(param.grad is grad for param, grad in zip(params, grads, strict=True))
    assert [tensor.data_ptr() for tensor in (*params, *grads)] == places


def test_a_gradient_that_the_user_assigns_is_used_and_kept():
    model = network()
    params = trained(model)
    optimizer = pt.ProjectedSGD(params, lr=0.1)
    given = [normal(*param.shape, seed=i) for i, param in enumerate(params)]
    for param, grad in zip(params, given, strict=True):
        param.grad = grad
    before = flat(params)
    optimizer.step()
    expected = projected_step(before, flat(given), 0.1, 1.0)
    torch.testing.assert_close(flat(params).double(), expected, rtol=0, atol=5e-7)
    assert all(param.grad is grad for param, grad in zip(params, given, strict=True))


def test_a_missing_gradient_counts_as_zero():
    a, b = nn.Parameter(sphere_point(10)), nn.Parameter(torch.zeros(3))
    optimizer = pt.ProjectedSGD([a, b], lr=0.1)
    a.grad, b.grad = normal(10, seed=1), None
    optimizer.step()
    assert b.tolist() == [0.0, 0.0, 0.0]
    assert b.grad is None
    assert not torch.equal(a, sphere_point(10))


def test_weights_that_the_user_reassigns_are_taken_up():
    param = nn.Parameter(sphere_point(10))
    optimizer = pt.ProjectedSGD([param], lr=0.1)
    param.data = sphere_point(10, seed=5)
    param.grad = normal(10, seed=1)
    optimizer.step()
    expected = projected_step(sphere_point(10, seed=5), normal(10, seed=1), 0.1, 1.0)
    torch.testing.assert_close(param.detach().double(), expected, rtol=0, atol=5e-7)


def test_each_group_is_a_sphere_of_its_own():
    a, b = nn.Parameter(sphere_point(10)), nn.Parameter(3.0 * sphere_point(20, seed=1, dtype=torch.float64))
    optimizer = pt.ProjectedSGD([{"params": [a], "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [b], "radius": 3.0, "retraction": "exponential"})
    a.grad, b.grad = normal(10, seed=2), normal(20, seed=3, dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(
        a.detach().double(), projected_step(sphere_point(10), a.grad, 0.5, 1.0), rtol=0, atol=5e-7
    )
    expected = exponential_step(3.0 * sphere_point(20, seed=1, dtype=torch.float64), b.grad, 0.1, 3.0)
    torch.testing.assert_close(b.detach(), expected, rtol=0, atol=1e-14)


def test_scheduler_and_closure():
    param = nn.Parameter(sphere_point(10))
    optimizer = pt.ProjectedSGD([param], lr=0.4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.25)
    target = sphere_point(10, seed=1)

    def closure():
        optimizer.zero_grad()
        loss = 1.0 - param @ target
        loss.backward()
        return loss.detach()

    for lr in (0.4, 0.1):
        before = param.detach().clone()
        loss = optimizer.step(closure)
        assert loss == pytest.approx(float(1.0 - before @ target), abs=1e-6)
        expected = projected_step(before, -target, lr, 1.0)
        torch.testing.assert_close(param.detach().double(), expected, rtol=0, atol=5e-7)
        scheduler.step()


def test_zero_gradient_leaves_the_weights():
    param = nn.Parameter(sphere_point(1000))
    optimizer = pt.ProjectedSGD([param], lr=0.1)
    optimizer.step()
    assert torch.equal(param.detach(), sphere_point(1000))


def test_state_dict_round_trip():
    model, other = network(), network()
    optimizer = pt.ProjectedSGD(trained(model), lr=0.3, radius=1.0)
    restored = pt.ProjectedSGD(trained(other), lr=0.1)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert restored.param_groups[0]["lr"] == 0.3
    for one, its_optimizer in ((model, optimizer), (other, restored)):
        its_optimizer.zero_grad()
        backward(one)
        its_optimizer.step()
    assert torch.equal(flat(trained(model)), flat(trained(other)))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_go_their_own_way(duplicate):
    model = network()
    optimizer = pt.ProjectedSGD(trained(model), lr=0.1)
    other, its_optimizer = duplicate((model, optimizer))
    before = flat(trained(model))
    its_optimizer.zero_grad()
    backward(other)
    its_optimizer.step()
    assert torch.equal(flat(trained(model)), before)
    optimizer.zero_grad()
    backward(model)
    optimizer.step()
    assert torch.equal(flat(trained(model)), flat(trained(other)))


def test_a_bad_gradient_is_refused_with_the_weights_untouched():
    model = network()
    optimizer = pt.ProjectedSGD(trained(model), lr=0.1)
    backward(model)
    before = flat(trained(model))
    trained(model)[1].grad.view(-1)[3] = float("nan")
    with pytest.raises(ValueError, match=r"grad: element 3 of tensor 1, of shape \[.*\], is nan"):
        optimizer.step()
    assert torch.equal(flat(trained(model)), before)


def test_a_sparse_gradient_is_refused():
    embedding = nn.Embedding(5, 3, sparse=True)
    optimizer = pt.ProjectedSGD(embedding.parameters(), lr=0.1)
    optimizer.zero_grad()
    embedding(torch.tensor([1])).sum().backward()
    before = embedding.weight.detach().clone()
    with pytest.raises(TypeError, match="dense, not sparse"):
        optimizer.step()
    assert torch.equal(embedding.weight.detach(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": float("nan")}, "lr: must be finite and not negative"),
        ({"lr": -1.0}, "lr: must be finite and not negative"),
        ({"lr": 0.1, "radius": 0.0}, "radius: must be positive"),
        ({"lr": 0.1, "retraction": "cayley"}, "retraction: must be one of"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        pt.ProjectedSGD([nn.Parameter(torch.ones(3))], **options)


def test_wrong_parameters_are_named():
    with pytest.raises(TypeError, match="float16"):
        pt.ProjectedSGD([nn.Parameter(torch.ones(3, dtype=torch.float16))], lr=0.1)
    mixed = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3).double())]
    with pytest.raises(ValueError, match="share dtype and device"):
        pt.ProjectedSGD(mixed, lr=0.1)
    zero = nn.Parameter(torch.zeros(3))
    optimizer = pt.ProjectedSGD([zero], lr=0.1)
    zero.grad = torch.ones(3)
    with pytest.raises(ValueError, match="weights: all elements are zero"):
        optimizer.step()


def test_project_puts_all_parameters_on_one_sphere():
    params = [nn.Parameter(normal(5, 5, seed=1)), nn.Parameter(normal(7, seed=2))]
    expected = float(flat(params).double().norm())
    assert pt.project_(params, radius=2.0) == pytest.approx(expected)
    assert float(flat(params).double().norm()) == pytest.approx(2.0, rel=1e-6)
    with pytest.raises(ValueError, match="params: their common norm"):
        pt.project_([torch.zeros(3)])


def test_a_step_refused_for_one_group_changes_none():
    a, b = nn.Parameter(sphere_point(10)), nn.Parameter(sphere_point(20, seed=1))
    optimizer = pt.ProjectedSGD([{"params": [a]}, {"params": [b]}], lr=0.1)
    a.grad, b.grad = normal(10, seed=2), normal(20, seed=3)
    b.grad[3] = float("inf")
    with pytest.raises(ValueError, match="grad: element 3 is inf"):
        optimizer.step()
    assert torch.equal(a.detach(), sphere_point(10))
    assert torch.equal(b.detach(), sphere_point(20, seed=1))


def test_a_refused_group_leaves_the_optimizer_as_it_was():
    a = nn.Parameter(sphere_point(10))
    optimizer = pt.ProjectedSGD([a], lr=0.1)
    with pytest.raises(ValueError, match="params: a group needs at least one parameter"):
        optimizer.add_param_group({"params": []})
    a.grad = normal(10, seed=1)
    optimizer.step()
    assert not torch.equal(a.detach(), sphere_point(10))


def test_a_model_that_changed_its_dtype_is_stepped_in_the_new_one():
    model = network()
    optimizer = pt.ProjectedSGD(trained(model), lr=0.125)
    model.double()
    before = flat(trained(model))
    grads = [normal(*param.shape, seed=i, dtype=torch.float64) for i, param in enumerate(trained(model))]
    for param, grad in zip(trained(model), grads, strict=True):
        param.grad = grad
    optimizer.step()
    expected = projected_step(before, flat(grads), 0.125, 1.0)
    torch.testing.assert_close(flat(trained(model)), expected, rtol=0, atol=1e-14)


def test_a_group_of_which_a_part_changed_its_dtype_is_refused():
    model = network()
    params = trained(model)
    optimizer = pt.ProjectedSGD(params, lr=0.1)
    params[1].data = params[1].data.double()
    before = [param.detach().clone() for param in params]
    with pytest.raises(
        TypeError, match=r"weights: the dtype of tensor 1 must be .*float32, not torch.float64"
    ):
        optimizer.step()
    assert all(torch.equal(param, was) for param, was in zip(params, before, strict=True))


def test_a_gradient_that_the_user_keeps_is_not_overwritten():
    param = nn.Parameter(sphere_point(10))
    optimizer = pt.ProjectedSGD([param], lr=0.1)
    (param @ normal(10, seed=1)).backward()
    kept = param.grad
    optimizer.step()
    optimizer.zero_grad()
    (param @ normal(10, seed=2)).backward()
    optimizer.step()
    assert torch.equal(kept, normal(10, seed=1))


def test_autograd_knows_that_the_weights_changed():
    param = nn.Parameter(sphere_point(10))
    optimizer = pt.ProjectedSGD([param], lr=0.1)
    loss = (param**3).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_unknown_retraction_set_later_is_named():
    param = nn.Parameter(sphere_point(10))
    optimizer = pt.ProjectedSGD([param], lr=0.1)
    optimizer.param_groups[0]["retraction"] = "cayley"
    with pytest.raises(ValueError, match="retraction: must be one of"):
        optimizer.step()
    with pytest.raises(TypeError, match="lr: must be a number, not None"):
        pt.ProjectedSGD([param], lr=None)


def test_hooks_run_and_the_profiler_sees_the_step():
    param = nn.Parameter(sphere_point(10))
    param.grad = torch.ones(10)
    optimizer, seen = pt.ProjectedSGD([param], lr=0.1), []
    before = optimizer.register_step_pre_hook(lambda *arguments: seen.append("before"))
    optimizer.register_step_post_hook(lambda *arguments: seen.append("after"))
    everywhere = register_optimizer_step_post_hook(lambda *arguments: seen.append("all"))
    try:
        assert optimizer.step(lambda: 3.0) == 3.0
    finally:
        everywhere.remove()
    before.remove()
    optimizer.step()
    assert seen == ["before", "after", "all", "after"]
    unhooked = pt.ProjectedSGD([param], lr=0.1)
    with torch.profiler.profile() as profile:
        unhooked.step()
    assert "Optimizer.step#ProjectedSGD.step" in {event.key for event in profile.key_averages()}


def test_lazily_negated_views():
    weights, grad = sphere_point(10), torch.randn(10)
    negated, plain = nn.Parameter(weights.clone()), nn.Parameter(weights.clone())
    negated.grad, plain.grad = torch._neg_view(grad), -grad
    for param in (negated, plain):
        pt.ProjectedSGD([param], lr=0.1).step()
    assert torch.equal(negated, plain)
    view = torch._neg_view(weights.clone())
    for given, other in ((view, grad), ([view], [grad])):
        with pytest.raises(ValueError, match=r"weights: .*lazily negated view"):
            pt.ops.projected_sgd_step_(given, other, 0.1)
    moved = pt.ops.projected_sgd_step_(weights.clone(), torch._neg_view(grad), 0.1)
    assert torch.equal(moved, plain)
