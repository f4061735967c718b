"""The step on a list of tensors: that on one flat vector of their elements, wherever they lie."""

import numpy as np
import pytest
import torch
from backends import on_every_instruction_set_and_thread_count
from hypothesis import given
from hypothesis import strategies as st
from reference import normal, projected_step, sphere_point

import pythermo as pt

STEPS = {"projection": pt.ops.projected_sgd_step_, "exponential": pt.ops.exponential_sgd_step_}
each_step = pytest.mark.parametrize("name", STEPS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
on_all_kernels = pytest.mark.usefixtures("kernels")
NAN, INF = float("nan"), float("inf")

# At the edges of packs (4), lanes (32), runs (1024) and blocks (32 768), and of none.
SIZES = st.sampled_from([0, 1, 2, 3, 4, 5, 31, 32, 33, 100, 1023, 1024, 1025, 3000])


def apart(flat: torch.Tensor, sizes: list[int], offsets: list[int]) -> list[torch.Tensor]:
    """Return copies of a vector's parts, each in memory of its own and so many elements behind its start."""
    parts = []
    for part, offset in zip(flat.split(sizes), offsets, strict=True):
        parts.append(torch.empty(len(part) + offset, dtype=flat.dtype)[offset:])
        parts[-1].copy_(part)
    return parts


@on_all_kernels
@each_step
@each_dtype
@given(
    parts=st.lists(
        st.tuples(SIZES, st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=9
    ),
    seed=st.integers(0, 10**6),
)
def test_the_bits_of_the_flat_step_however_it_is_divided(name, dtype, parts, seed):
    sizes, before_weights, before_grad, has_grad = map(list, zip(*parts, strict=True))
    size = sum(sizes) + 2
    sizes.append(2), before_weights.append(1), before_grad.append(0), has_grad.append(True)
    start, grad = sphere_point(size, seed, dtype), normal(size, seed=seed + 1, dtype=dtype)
    weights, grads = apart(start, sizes, before_weights), apart(grad, sizes, before_grad)
    kept = [part if there else None for part, there in zip(grads, has_grad, strict=True)]
    filled = [part if there else torch.zeros_like(part) for part, there in zip(grads, has_grad, strict=True)]
    assert STEPS[name](weights, kept, 0.01) is weights
    assert torch.equal(torch.cat(weights), STEPS[name](start.clone(), torch.cat(filled), 0.01))


@on_all_kernels
@each_step
@pytest.mark.parametrize("count", [31, 32, 33, 65, 3000])  # CUDA's launch takes 32 along
def test_very_many_tensors_of_one_element(name, count):
    start, grad = sphere_point(count), normal(count, seed=1)
    weights = apart(start, [1] * count, [0] * count)
    STEPS[name](weights, list(grad.split(1)), 0.1)
    assert torch.equal(torch.cat(weights), STEPS[name](start.clone(), grad, 0.1))


@each_step
@each_dtype
@pytest.mark.parametrize("size", [300_001, 2**22 + 5])  # the second of which is beyond the caches
def test_the_same_bits_for_any_thread_count_and_instruction_set(name, dtype, size):
    start, grad = sphere_point(size, dtype=dtype), normal(size, seed=1, dtype=dtype)
    sizes, offsets = [5, 32_769, 1, 100_003, size - 132_778], [0, 1, 2, 3, 4]
    grad[5 : 5 + 32_769] = 0.0
    expected = STEPS[name](start.clone(), grad, 0.01)

    def step() -> torch.Tensor:
        weights, grads = apart(start, sizes, offsets), apart(grad, sizes, offsets[::-1])
        return torch.cat(STEPS[name](weights, [grads[0], None, *grads[2:]], 0.01))

    results = on_every_instruction_set_and_thread_count(step)
    assert all(torch.equal(expected, other) for other in results)


def test_a_predicted_step_into_the_center_is_taken_back():
    start = sphere_point(2**22 + 5)
    weights, grads = list(start.clone().split(2**20 + 3)), list((4.0 * start).split(2**20 + 3))
    with pytest.raises(ValueError, match="the step ends at the origin"):
        pt.ops.projected_sgd_step_(weights, grads, 0.25)
    assert torch.equal(torch.cat(weights), start)


LAYOUTS = {
    "contiguous": lambda shape: torch.empty(shape),
    "channels last": lambda shape: torch.empty(shape).to(memory_format=torch.channels_last),
    "transposed": lambda shape: torch.empty(shape[::-1]).permute(3, 2, 1, 0),
    "a slice": lambda shape: torch.empty(*shape[:-1], shape[-1] + 2)[..., 1:-1],
    "every second": lambda shape: torch.empty(2 * shape[0], *shape[1:])[::2],
}
each_layout = st.sampled_from(sorted(LAYOUTS))
SHAPES = [(3, 2, 4, 5), (6, 1, 3, 3), (1, 1, 1, 2)]


@on_all_kernels
@each_dtype
@given(layouts=st.tuples(*[st.tuples(each_layout, each_layout) for _ in SHAPES]), seed=st.integers(0, 10**6))
def test_any_order_in_memory(dtype, layouts, seed):
    """Each element is stepped by its own gradient."""
    weights, grads = [], []
    for i, (shape, (of_weights, of_grad)) in enumerate(zip(SHAPES, layouts, strict=True)):
        weights.append(LAYOUTS[of_weights](shape).to(dtype).copy_(normal(*shape, seed=seed + i, dtype=dtype)))
        grads.append(LAYOUTS[of_grad](shape).to(dtype).copy_(normal(*shape, seed=seed - i - 1, dtype=dtype)))
    flat = [torch.cat([one.flatten() for one in tensors]) for tensors in (weights, grads)]
    places = [(one.data_ptr(), one.stride()) for one in weights]
    pt.ops.projected_sgd_step_(weights, grads, 0.25)
    moved = torch.cat([one.flatten() for one in weights])
    expected = projected_step(*flat, 0.25, 1.0)
    # Three roundings per element and one of the scale, relative to the largest weight.
    assert float((moved.double() - expected).abs().max()) <= 4 * torch.finfo(dtype).eps
    assert [(one.data_ptr(), one.stride()) for one in weights] == places


def test_columns_of_one_matrix_are_tensors_of_their_own():
    matrix = normal(6, 5)
    grads = [normal(6, 2, seed=1), normal(6, 3, seed=2)]
    expected = projected_step(matrix.flatten(), torch.cat(grads, dim=1).flatten(), 0.25, 1.0)
    pt.ops.projected_sgd_step_([matrix[:, :2], matrix[:, 2:]], grads, 0.25)
    torch.testing.assert_close(matrix.flatten().double(), expected, rtol=0, atol=5e-7)


def test_arrays_in_a_list():
    weights = [np.array([[3.0]]), np.array([4.0])]
    pt.ops.projected_sgd_step_(weights, [np.array([[1.0]]), None], 3.0)
    assert [one.tolist() for one in weights] == [[[0.0]], [1.0]]


WHOLE = normal(10)
BAD_LISTS = {
    "nan": (
        [torch.ones(2), torch.ones(2, 2)], [None, torch.tensor([[0.0, 1.0], [NAN, 0.0]])],
        ValueError, r"grad: element 2 of tensor 1, of shape \[2, 2\], is nan; all elements must be finite",
    ),
    "inf": (
        [torch.ones(2), torch.tensor([1.0, INF])], [torch.ones(2), torch.ones(2)],
        ValueError, r"weights: element 1 of tensor 1, of shape \[2\], is inf",
    ),
    "zeros": ([torch.zeros(2), torch.zeros(3)], [torch.ones(2), None], ValueError, "weights: all elements are zero"),
    "no elements": ([torch.zeros(0)], [torch.zeros(0)], ValueError, "weights: all elements are zero"),
    "none": ([], [], ValueError, "must be as many, at least one, not 0 and 0"),
    "too few": ([torch.ones(2)], [], ValueError, "must be as many, at least one, not 1 and 0"),
    "one shape": (
        [torch.ones(2), torch.ones(2, 3)], [None, torch.ones(3, 2)],
        ValueError, r"grad: tensor 1: must have the shape \[2, 3\], not \[3, 2\]",
    ),
    "dtype": (
        [torch.ones(2), torch.ones(2).double()], [None, None],
        TypeError, "weights: the dtype of tensor 1 must be that of the first weights, torch.float32, not torch.float64",
    ),
    "dtype of a gradient": (
        [torch.ones(2)], [torch.ones(2).double()], TypeError, "grad: the dtype of tensor 0 must be that of",
    ),
    "half": ([torch.ones(2).half()], [None], TypeError, "weights: the dtype must be float32 or float64"),
    "device": (
        [torch.ones(2), torch.ones(2, device="meta")], [None, None],
        ValueError, "weights: tensor 1 must lie on the device of the first weights, cpu, not meta",
    ),
    "meta": ([torch.ones(2, device="meta")], [None], ValueError, "weights: no kernel for the device meta"),
    "sparse": ([torch.ones(2)], [torch.ones(2).to_sparse()], TypeError, "grad: tensor 0 must be dense, not sparse"),
    "expanded": ([torch.ones(1).expand(3)], [None], ValueError, "weights: elements of tensor 0 share memory"),
    "overlap": ([WHOLE[:6], WHOLE[5:]], [None, None], ValueError, "weights: two tensors share memory"),
    "overlap of slices": (
        [WHOLE[:6:2], WHOLE[4::2]], [None, None], ValueError, "weights: tensor 1 shares memory with another",
    ),
    "slice in a whole": (
        [WHOLE, WHOLE[::2]], [None, None], ValueError, "weights: tensor 1 shares memory with another",
    ),
    "grad in weights": ([WHOLE[:4], WHOLE[5:9]], [None, WHOLE[1:5]], ValueError, "grad: shares memory with weights"),
    "text": ([torch.ones(2), "w"], [None, None], TypeError, "weights: must be a torch tensor or a numpy array, not str"),
}  # fmt: skip


@each_step
@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_lists_are_refused_with_the_weights_untouched(name, case):
    weights, grads, error, message = BAD_LISTS[case]
    before = [one.clone() if isinstance(one, torch.Tensor) else one for one in weights]
    with pytest.raises(error, match=message):
        STEPS[name](weights, grads, 0.1)
    for one, was in zip(weights, before, strict=True):
        assert isinstance(one, str) or one.is_meta or torch.equal(one, was)


@each_step
def test_there_is_no_derivative(name):
    weights = [sphere_point(5).requires_grad_()]
    with pytest.raises(RuntimeError, match="no derivative"):
        STEPS[name](weights, [normal(5)], 0.1)


def test_autograd_knows_that_the_weights_changed():
    weights = [torch.ones(2), sphere_point(5).requires_grad_()]
    loss = (weights[1] ** 3).sum()
    with torch.no_grad():
        pt.ops.projected_sgd_step_(weights, [None, normal(5)], 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
