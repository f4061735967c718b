"""The table of kernels, and the copies that bring the CPU's tests to a device."""

import backends
import pytest
import torch

from pythermo.ops._backends import CUDA, KERNELS, has_kernel, kernel, kernel_for

ON_BOTH = {
    "batch_norm_relu",
    "batch_norm_relu_backward",
    "exponential_sgd_step",
    "gradient_sums",
    "knn_distance_sums",
    "knn_distances",
    "matrix_distance_sums",
    "lanes_convolution",
    "lanes_convolution_images_gradient",
    "lanes_convolution_weights_gradient",
    "lanes_exponential_step",
    "lanes_fixed_elr_step",
    "lanes_fixed_lr_step",
    "lanes_gather",
    "lanes_gradient_moments",
    "lanes_gradient_statistics",
    "lanes_gradient_sums",
    "lanes_head",
    "lanes_moments",
    "lanes_normalization",
    "lanes_normalization_backward",
    "lanes_products",
    "lanes_projected_step",
    "lanes_statistics",
    "fixed_elr_step",
    "fixed_lr_step",
    "projected_sgd_step",
    "simulate_sphere",
    "sketch",
    "sphere_workspace_size",
    "update_squared_distances",
}
ON_CPU_ALONE = {"minibatches"}


def test_every_kernel_is_in_the_table():
    assert {name for where, name in KERNELS if where == "cpu"} == ON_BOTH | ON_CPU_ALONE
    assert {name for where, name in KERNELS if where == "cuda"} == ON_BOTH


def test_the_device_decides_which_code_runs(monkeypatch):
    for where in ("cpu", "meta"):
        monkeypatch.setitem(KERNELS, (where, "double"), None)
        kernel(where, "double")(lambda tensor, where=where: where)
    here, there = torch.ones(2), torch.ones(2, device="meta")
    assert kernel_for("double", "x", here)(here) == "cpu"
    assert kernel_for("double", "x", there)(there) == "meta"


def test_a_device_without_the_kernel_is_named():
    there = torch.ones(2, device="meta")
    assert not has_kernel("sketch", there)
    with pytest.raises(ValueError, match="weights: no kernel for the device meta; there are some for cpu"):
        kernel_for("sketch", "weights", there)


def test_without_cuda_its_kernels_do_not_count(monkeypatch):
    class OnCuda:
        device, is_cpu = torch.device("cuda", 0), False

    monkeypatch.setattr(CUDA, "native", object())
    assert has_kernel("sketch", OnCuda)
    monkeypatch.setattr(CUDA, "native", None)
    with pytest.raises(ValueError, match=r"no kernel for the device cuda:0 \(built without CUDA\)"):
        kernel_for("sketch", "weights", OnCuda)


@pytest.mark.parametrize(
    "view",
    [
        torch.arange(10.0)[3:],
        torch.arange(40.0).reshape(5, 8)[1:4, 3:6],
        torch.arange(6.0).reshape(2, 3).T,
        torch.arange(3.0)[1:2].expand(4, 1),
        torch.empty(0),
    ],
)
def test_a_copy_lies_in_memory_as_the_view_does(view):
    copy = backends.twin(view, "cpu")
    assert torch.equal(copy, view)
    assert copy.stride() == view.stride()
    assert copy.storage_offset() == view.storage_offset()
    if view.numel():
        assert copy.data_ptr() != view.data_ptr()


def test_what_a_kernel_writes_into_a_copy_comes_back(monkeypatch):
    monkeypatch.setattr(backends, "DEVICE", "cpu")
    whole = torch.zeros(6)

    def write(target, arrays):
        target += 1.0
        arrays["out"] += 2.0
        return target.sum()

    out = torch.zeros(2)
    assert backends.copying(write)(whole[1::2], {"out": out}) == 3.0
    assert whole.tolist() == [0, 1, 0, 1, 0, 1]
    assert out.tolist() == [2, 2]
