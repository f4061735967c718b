// One SGD step for members side by side, each with a norm, a learning rate, and a radius or weight decay of
// its own; and how images come into their lanes. Lanes as in lanes_convolution.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"
#include "projected_sgd_step.hpp"
#include "tensor_view.hpp"

namespace pythermo::lanes {

// One member's step: what went wrong with it, and whether it moves.
struct MemberStep {
  StepError error = StepError::none;
  bool moves = false;
  float first = 0.0f, second = 0.0f;  // the numbers of the update
};

// `is_zero(true)` tells whether all weights are 0, `is_zero(false)` whether the gradient is.
template <class Retraction, class IsZero>
PYTHERMO_INLINE MemberStep member_step(const double* sums, double lr, double parameter,
                                       const IsZero& is_zero) {
  if (!Retraction::allows(static_cast<float>(parameter))) return {StepError::parameter};
  if (!(lr >= 0.0 && is_finite(static_cast<float>(lr)))) return {StepError::learning_rate};
  for (int k = 0; k < Retraction::sum_count; ++k) {
    if (!is_finite(sums[k])) return {StepError::not_finite};
  }
  if (is_zero(true)) return {StepError::zero_weights};
  if (static_cast<float>(lr) == 0.0f) return {};
  if (!Retraction::moves_without_gradient && is_zero(false)) return {};
  if (!(sums[0] > 0.0)) return {Retraction::without_length};
  const auto update = Retraction::template update<float>(sums, lr, parameter);
  if (!update.usable()) return {Retraction::unusable};
  const auto [first, second] = update;
  return {StepError::none, true, first, second};
}

}  // namespace pythermo::lanes

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

// Moves weights [D, lanes] float32 in place by their gradients, lr and radius or weight_decay [lanes]
// float64. status [lanes] int64 gets 0, or the StepError of a member that could not be moved, whose weights
// stay. Sums run in float64.
void lanes_projected_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& radius, const TensorView& status);
void lanes_exponential_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                            const TensorView& radius, const TensorView& status);
void lanes_fixed_lr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                         const TensorView& weight_decay, const TensorView& status);
void lanes_fixed_elr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& weight_decay, const TensorView& status);

// products [3, lanes] float64 gets |w|^2, |g|^2 and <w, g> of each member.
void lanes_products(const TensorView& weights, const TensorView& grad, const TensorView& products);

// out [count, size, lanes] from samples [N, size]: that of the indices [lanes, count] int64. Throws
// std::invalid_argument for an index that is not a sample's.
void lanes_gather(const TensorView& samples, const TensorView& indices, const TensorView& out);

}  // namespace pythermo::cpu

// The same on a CUDA device, on a stream and without a wait: weights and gradients [groups, D, 32], what else
// members have [groups * 32], products [groups, 3, 32]. Sums run in float64, in parts that depend on D alone.
// An index that is not a sample's gives NaN.
namespace pythermo::cuda {

// How many float64 numbers of workspace a step needs, of one stream at a time.
std::size_t lanes_step_workspace_size(const TensorView& weights);
void lanes_projected_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& radius, const TensorView& status, const TensorView& workspace,
                          std::uintptr_t stream);
void lanes_exponential_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                            const TensorView& radius, const TensorView& status, const TensorView& workspace,
                            std::uintptr_t stream);
void lanes_fixed_lr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                         const TensorView& weight_decay, const TensorView& status,
                         const TensorView& workspace, std::uintptr_t stream);
void lanes_fixed_elr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& weight_decay, const TensorView& status,
                          const TensorView& workspace, std::uintptr_t stream);
void lanes_products(const TensorView& weights, const TensorView& grad, const TensorView& products,
                    const TensorView& workspace, std::uintptr_t stream);

// out [groups, count, size, 32] from samples [N, size] and indices [groups * 32, count].
void lanes_gather(const TensorView& samples, const TensorView& indices, const TensorView& out,
                  std::uintptr_t stream);

}  // namespace pythermo::cuda
