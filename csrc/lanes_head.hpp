// What ends a network of members side by side: pooling over all pixels, a frozen linear head that all members
// share, and the loss. Lanes as in lanes_convolution.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"
#include "primitives.hpp"
#include "tensor_view.hpp"

namespace pythermo::lanes {

enum class Pooling { largest, mean };
enum class HeadLoss { cross_entropy, squared_error };

struct Head {
  std::size_t images, pixels, features, classes;
  Pooling pooling;
  HeadLoss loss;
};

}  // namespace pythermo::lanes

// The loops, built for each instruction set.
namespace pythermo::cpu {

struct HeadArrays {
  const float *features, *weights, *bias;  // bias: null for none
  const std::int64_t* labels;
  double* losses;      // [lanes] sums over the images
  std::int64_t* hits;  // [lanes]
  float* grad;         // null where it is not asked for
};

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // `scratch` holds (features + 2 * classes) * lanes numbers.
  void add_head_losses(const lanes::Head& head, const HeadArrays& arrays, float* scratch);
)
// clang-format on

}  // namespace pythermo::cpu

// The whole kernel on the CPU.
namespace pythermo::cpu {

// Features [N, pixels, F, lanes] are pooled to [N, F, lanes], and weights [classes, F] and bias [classes],
// which may be empty, make logits of them. Writes to losses [lanes] float64 the means over the images, whose
// labels [N, lanes] int64 are, to hits [lanes] int64 how many have their largest logit at their label, and to
// grad, which may be empty, the gradients of the features. Of equal pixels the first is the largest. Throws
// std::invalid_argument for sizes that do not fit and for labels that are no class.
void lanes_head(const TensorView& features, const TensorView& weights, const TensorView& bias,
                const TensorView& labels, bool largest, bool squared_error, const TensorView& losses,
                const TensorView& hits, const TensorView& grad);

}  // namespace pythermo::cpu

// The same on a CUDA device, on a stream and without a wait: features [groups, N, pixels, F, 32], labels
// [groups, N, 32], losses and hits [groups * 32]. A label that is no class has the probability 1 of none.
namespace pythermo::cuda {

// How many float64 numbers of workspace it needs, of one stream at a time.
std::size_t lanes_head_workspace_size(const TensorView& features);
void lanes_head(const TensorView& features, const TensorView& weights, const TensorView& bias,
                const TensorView& labels, bool largest, bool squared_error, const TensorView& losses,
                const TensorView& hits, const TensorView& grad, const TensorView& workspace,
                std::uintptr_t stream);

}  // namespace pythermo::cuda
