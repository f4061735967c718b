// One SGD step on the sphere, on a CUDA device.
#pragma once

#include <cstdint>

#include "../segments.hpp"

namespace pythermo::cuda {

// Why a step was not made. Nothing is read back to the host: what went wrong is left in a status word.
enum class StepError : std::int64_t {
  none = 0,
  not_finite = 1,       // an element, or the squared length of the step
  zero_weights = 2,     // weights without a direction
  center = 3,           // the step ends in the center of the sphere
  far_from_radius = 4,  // the norm is too far from the radius for the weights' dtype
  learning_rate = 5,    // negative, or not finite in the weights' dtype
};

// What one step needs beside its weights and gradient.
struct StepArguments {
  double lr;
  TensorView lr_on_device;  // [1] float64, which is read in the place of lr, or empty
  double radius;
  TensorView workspace;  // [step_workspace_size(tensors)] float64; of one stream at a time
  TensorView status;     // [1] int64: the first StepError since it was set to 0
  std::uintptr_t stream;
  unsigned threads;  // of a block, at most 512: the same bits for any multiple of 32
};

std::size_t step_workspace_size(std::size_t tensors);

// In place, on the tensors of one vector, which may lie anywhere; a gradient that there is not counts as
// zero, and a learning rate of zero leaves the weights. The same bits however the vector is divided into
// tensors. No wait; a step that fails changes no weight. A graph that captures it keeps the tensors'
// addresses. Throws std::invalid_argument for arguments that do not fit, std::runtime_error for what CUDA
// refuses.
void projected_sgd_step(const Tensors& weights, const OptionalTensors& grads, const StepArguments& arguments);
void exponential_sgd_step(const Tensors& weights, const OptionalTensors& grads,
                          const StepArguments& arguments);

}  // namespace pythermo::cuda
