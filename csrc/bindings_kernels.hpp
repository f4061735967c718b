// The kernels that Python calls: a line for each, on the CPU and on CUDA devices.
#pragma once

#include "batch_norm_relu.hpp"
#include "bind.hpp"
#include "bindings_sphere.hpp"
#include "gradient_sums.hpp"
#include "knn.hpp"
#include "lanes_batch_norm.hpp"
#include "lanes_convolution.hpp"
#include "lanes_gradient_sums.hpp"
#include "lanes_head.hpp"
#include "lanes_step.hpp"
#include "minibatches.hpp"
#include "projected_sgd_step.hpp"
#include "sketch.hpp"
#include "sphere_arrays.hpp"

namespace pybind11::detail {

// A row that is not finite: its cloud and its point.
template <>
struct type_caster<pythermo::cpu::BadRow> {
  static constexpr auto name = const_name("tuple[int, int]");
  static handle cast(const pythermo::cpu::BadRow& row, return_value_policy, handle) {
    return make_tuple(row.cloud, row.point).release();
  }
};

}  // namespace pybind11::detail

namespace pythermo {

// clang-format off
inline void bind_cpu_kernels(pybind11::module_& module) {
  bind(module, "batch_norm_relu", &cpu::batch_norm_relu, {"x", "width", "pool", "rectify", "eps", "output", "statistics", "threads"});
  bind(module, "batch_norm_relu_backward", &cpu::batch_norm_relu_backward, {"x", "width", "pool", "rectify", "output", "statistics", "grad", "grad_x", "threads"});
  bind(module, "gradient_sums", &cpu::gradient_sums, {"grad", "center", "total", "sums", "threads"});
  bind(module, "knn_distances", &cpu::knn_distances, {"points", "k", "distances", "indices", "threads"});
  bind(module, "knn_distance_sums", &cpu::knn_distance_sums, {"points", "ks", "gamma", "sums", "threads"});
  bind(module, "update_squared_distances", &cpu::update_squared_distances, {"points", "first", "changed", "matrix", "threads"});
  bind(module, "matrix_distance_sums", &cpu::matrix_distance_sums, {"matrix", "ks", "gamma", "without", "without_end", "sums", "threads"});
  bind(module, "lanes_of_members", &cpu::lanes_of_members);
  bind(module, "lanes_convolution", &cpu::lanes_convolution, {"images", "weights", "stride", "padding", "output"});
  bind(module, "lanes_convolution_images_gradient", &cpu::lanes_convolution_images_gradient, {"grad", "weights", "stride", "padding", "grad_images"});
  bind(module, "lanes_convolution_weights_gradient", &cpu::lanes_convolution_weights_gradient, {"images", "grad", "stride", "padding", "grad_weights"});
  bind(module, "lanes_gradient_sums", &cpu::lanes_gradient_sums, {"grad", "center", "total", "sums"});
  bind(module, "lanes_head", &cpu::lanes_head, {"features", "weights", "bias", "labels", "largest", "squared_error", "losses", "hits", "grad"});
  bind(module, "lanes_moments", &cpu::lanes_moments, {"x", "batch", "sums"});
  bind(module, "lanes_statistics", &cpu::lanes_statistics, {"sums", "batch", "eps", "constants"});
  bind(module, "lanes_normalization", &cpu::lanes_normalization, {"x", "pool", "rectify", "constants", "output"});
  bind(module, "lanes_gradient_moments", &cpu::lanes_gradient_moments, {"output", "rectify", "grad", "sums"});
  bind(module, "lanes_gradient_statistics", &cpu::lanes_gradient_statistics, {"sums", "batch", "constants"});
  bind(module, "lanes_normalization_backward", &cpu::lanes_normalization_backward, {"x", "pool", "rectify", "constants", "grad", "grad_x"});
  bind(module, "lanes_projected_step", &cpu::lanes_projected_step, {"weights", "grad", "lr", "radius", "status"});
  bind(module, "lanes_exponential_step", &cpu::lanes_exponential_step, {"weights", "grad", "lr", "radius", "status"});
  bind(module, "lanes_fixed_lr_step", &cpu::lanes_fixed_lr_step, {"weights", "grad", "lr", "weight_decay", "status"});
  bind(module, "lanes_fixed_elr_step", &cpu::lanes_fixed_elr_step, {"weights", "grad", "lr", "weight_decay", "status"});
  bind(module, "lanes_products", &cpu::lanes_products, {"weights", "grad", "products"});
  bind(module, "lanes_gather", &cpu::lanes_gather, {"samples", "indices", "out"});
  bind(module, "minibatches", &cpu::minibatches, {"draws", "population", "indices"});
  bind(module, "projected_sgd_step", &cpu::projected_sgd_step, {"weights", "grad", "lr", "radius", "threads"});
  bind(module, "exponential_sgd_step", &cpu::exponential_sgd_step, {"weights", "grad", "lr", "radius", "threads"});
  bind(module, "fixed_lr_step", &cpu::fixed_lr_step, {"weights", "grad", "lr", "weight_decay", "threads"});
  bind(module, "fixed_elr_step", &cpu::fixed_elr_step, {"weights", "grad", "lr", "weight_decay", "threads"});
  bind(module, "sketch", &cpu::sketch, {"weights", "out", "seed"});
  bind(module, "simulate_sphere", &cpu::simulate_sphere, {"settings", "arrays", "threads"});
  bind(module, "sphere_indices", &cpu::sphere_indices, {"out", "replicas", "batch_size", "samples", "epochs", "seed", "first_step"});
  bind(module, "sphere_normals", &cpu::sphere_normals, {"out", "replicas", "dim", "start", "seed", "first_step"});
}

inline void bind_cuda_kernels(pybind11::module_& module) {
  bind(module, "batch_norm_relu", &cuda::batch_norm_relu, {"x", "width", "pool", "rectify", "eps", "output", "statistics", "workspace", "stream"});
  bind(module, "batch_norm_relu_backward", &cuda::batch_norm_relu_backward, {"x", "width", "pool", "rectify", "output", "statistics", "grad", "grad_x", "workspace", "stream"});
  bind(module, "batch_norm_relu_workspace_size", &cuda::batch_norm_relu_workspace_size, {"pixels", "channels"});

  bind(module, "gradient_sums", &cuda::gradient_sums, {"grad", "center", "total", "sums", "workspace", "counter", "stream", "threads"});
  bind(module, "gradient_workspace_size", &cuda::gradient_workspace_size);

  module.attr("knn_fine") = cuda::knn_status::fine;
  module.attr("knn_too_far_apart") = cuda::knn_status::too_far_apart;
  bind_struct<cuda::KnnArguments, TensorView, TensorView, std::uintptr_t, unsigned, std::size_t>(module, "KnnArguments", {"workspace", "status", "stream", "threads", "longest_sorted"});
  bind(module, "knn_distances", &cuda::knn_distances, {"points", "k", "distances", "indices", "arguments"});
  bind(module, "knn_distance_sums", &cuda::knn_distance_sums, {"points", "ks", "gamma", "sums", "arguments"});
  bind(module, "knn_workspace_size", &cuda::knn_workspace_size, {"clouds", "points", "dim", "k", "ks", "longest_sorted", "bytes"});
  bind(module, "knn_update_workspace_size", &cuda::knn_update_workspace_size, {"points", "changed", "dim"});
  bind(module, "update_squared_distances", &cuda::update_squared_distances, {"points", "first", "changed", "matrix", "arguments"});
  bind(module, "matrix_distance_sums", &cuda::matrix_distance_sums, {"matrix", "ks", "gamma", "without", "without_end", "sums", "arguments"});
  bind(module, "knn_matrix_workspace_size", &cuda::knn_matrix_workspace_size, {"points", "k", "ks", "longest_sorted"});

  bind_struct<cuda::StepArguments, double, TensorView, double, TensorView, TensorView, std::uintptr_t, unsigned>(module, "StepArguments", {"lr", "lr_on_device", "parameter", "workspace", "status", "stream", "threads"});
  bind(module, "projected_sgd_step", &cuda::projected_sgd_step, {"weights", "grad", "arguments"});
  bind(module, "exponential_sgd_step", &cuda::exponential_sgd_step, {"weights", "grad", "arguments"});
  bind(module, "fixed_lr_step", &cuda::fixed_lr_step, {"weights", "grad", "arguments"});
  bind(module, "fixed_elr_step", &cuda::fixed_elr_step, {"weights", "grad", "arguments"});
  bind(module, "step_workspace_size", &cuda::step_workspace_size, {"tensors"});

  bind(module, "lanes_convolution", &cuda::lanes_convolution, {"images", "weights", "stride", "padding", "output", "stream"});
  bind(module, "lanes_convolution_images_gradient", &cuda::lanes_convolution_images_gradient, {"grad", "weights", "stride", "padding", "grad_images", "stream"});
  bind(module, "lanes_convolution_weights_gradient", &cuda::lanes_convolution_weights_gradient, {"images", "grad", "stride", "padding", "grad_weights", "workspace", "stream"});
  bind(module, "lanes_weights_gradient_workspace_size", &cuda::lanes_weights_gradient_workspace_size, {"images", "grad", "stride", "padding", "grad_weights"});
  bind(module, "lanes_moments", &cuda::lanes_moments, {"x", "batch", "sums", "workspace", "stream"});
  bind(module, "lanes_moments_workspace_size", &cuda::lanes_moments_workspace_size, {"x"});
  bind(module, "lanes_statistics", &cuda::lanes_statistics, {"sums", "batch", "eps", "constants", "stream"});
  bind(module, "lanes_normalization", &cuda::lanes_normalization, {"x", "pool", "rectify", "constants", "output", "stream"});
  bind(module, "lanes_gradient_moments", &cuda::lanes_gradient_moments, {"output", "rectify", "grad", "sums", "workspace", "stream"});
  bind(module, "lanes_gradient_statistics", &cuda::lanes_gradient_statistics, {"sums", "batch", "constants", "stream"});
  bind(module, "lanes_normalization_backward", &cuda::lanes_normalization_backward, {"x", "pool", "rectify", "constants", "grad", "grad_x", "stream"});
  bind(module, "lanes_head", &cuda::lanes_head, {"features", "weights", "bias", "labels", "largest", "squared_error", "losses", "hits", "grad", "workspace", "stream"});
  bind(module, "lanes_head_workspace_size", &cuda::lanes_head_workspace_size, {"features"});
  bind(module, "lanes_projected_step", &cuda::lanes_projected_step, {"weights", "grad", "lr", "radius", "status", "workspace", "stream"});
  bind(module, "lanes_exponential_step", &cuda::lanes_exponential_step, {"weights", "grad", "lr", "radius", "status", "workspace", "stream"});
  bind(module, "lanes_fixed_lr_step", &cuda::lanes_fixed_lr_step, {"weights", "grad", "lr", "weight_decay", "status", "workspace", "stream"});
  bind(module, "lanes_fixed_elr_step", &cuda::lanes_fixed_elr_step, {"weights", "grad", "lr", "weight_decay", "status", "workspace", "stream"});
  bind(module, "lanes_products", &cuda::lanes_products, {"weights", "grad", "products", "workspace", "stream"});
  bind(module, "lanes_step_workspace_size", &cuda::lanes_step_workspace_size, {"weights"});
  bind(module, "lanes_gather", &cuda::lanes_gather, {"samples", "indices", "out", "stream"});
  bind(module, "lanes_gradient_sums", &cuda::lanes_gradient_sums, {"grad", "center", "total", "sums", "workspace", "stream"});
  bind(module, "lanes_gradient_sums_workspace_size", &cuda::lanes_gradient_sums_workspace_size, {"grad"});

  bind(module, "sketch", &cuda::sketch, {"weights", "out", "seed", "stream"});

  bind_struct<cuda::SphereLaunch, TensorView, std::uintptr_t, unsigned, std::uint64_t>(module, "SphereLaunch", {"workspace", "stream", "threads", "most_work"});
  bind(module, "simulate_sphere", &cuda::simulate_sphere, {"settings", "arrays", "launch"});
  bind(module, "sphere_workspace_size", &cuda::sphere_workspace_size, {"settings", "chains", "samples", "element_bytes", "threads"});
}
// clang-format on

}  // namespace pythermo
