// The sums of stochastic gradients that their signal-to-noise ratios need, of members side by side. Lanes as
// in lanes_convolution.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"
#include "tensor_view.hpp"

// The loops, built for each instruction set.
namespace pythermo::cpu {

struct MemberSums {
  const float* grad;
  const double* center;  // null: 0
  double* total;         // null: nothing is added to it
  double *squared, *distance;
};

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  void add_gradient_sums(const MemberSums& sums, std::size_t size);
)
// clang-format on

}  // namespace pythermo::cpu

// The whole kernel on the CPU.
namespace pythermo::cpu {

// As gradient_sums, for each member: grad [D, lanes] float32, center and total [D * lanes] float64, which may
// be empty, sums [2, lanes].
void lanes_gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                         const TensorView& sums);

}  // namespace pythermo::cpu

// The same on a CUDA device, on a stream and without a wait: grad [groups, D, 32], center and total
// [groups * D * 32], sums [groups * 2 * 32].
namespace pythermo::cuda {

// How many float64 numbers of workspace it needs, of one stream at a time.
std::size_t lanes_gradient_sums_workspace_size(const TensorView& grad);
void lanes_gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                         const TensorView& sums, const TensorView& workspace, std::uintptr_t stream);

}  // namespace pythermo::cuda
