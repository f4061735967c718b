// One SGD step on the sphere for members side by side, each with a norm and a learning rate of its own; and
// how images come into their lanes. Lanes as in lanes_convolution.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"
#include "projected_sgd_step.hpp"
#include "tensor_view.hpp"

// The loops, built for each instruction set.
namespace pythermo::cpu {

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // The retraction's sums [sum_count, lanes] over `size` weights of each member. `lr` [lanes].
  template <class Retraction>
  void member_sums(const float* weights, const float* grad, std::size_t size, const double* lr, double* sums);

  // The update whose two numbers are `first` and `second` [lanes], where `moves` [lanes] is -1 and not 0.
  template <class Retraction>
  void update_members(float* weights, const float* grad, std::size_t size, const float* first,
                      const float* second, const std::int32_t* moves);

  void gather_members(const float* samples, std::size_t size, const std::int64_t* indices, std::size_t count,
                      std::size_t lane_stride, float* out);
)
// clang-format on

}  // namespace pythermo::cpu

// The whole kernel on the CPU.
namespace pythermo::cpu {

// Moves weights [D, lanes] float32 in place by their gradients and lr [lanes] float64. status [lanes] int64
// gets 0, or the StepError of a member that could not be moved, whose weights stay. Sums run in float64.
void lanes_projected_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          double radius, const TensorView& status);
void lanes_exponential_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                            double radius, const TensorView& status);

// out [count, size, lanes] from samples [N, size]: that of the indices [lanes, count] int64. Throws
// std::invalid_argument for an index that is not a sample's.
void lanes_gather(const TensorView& samples, const TensorView& indices, const TensorView& out);

}  // namespace pythermo::cpu
