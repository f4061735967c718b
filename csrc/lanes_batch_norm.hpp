// Normalization, pooling and ReLU of members side by side: the rows of batch_norm_relu.hpp, with the lanes of
// lanes_convolution.hpp in each channel. Sums run through a few pixels in float, and then in double.
#pragma once

#include <cstddef>

#include "batch_norm_relu.hpp"
#include "cpu/instruction_set.hpp"
#include "tensor_view.hpp"

// The loops, built for each instruction set.
namespace pythermo::cpu {

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Adds x - shift [channels, lanes] over the pixels to sums, and its squares to squares.
  void add_member_moments(const float* x, std::size_t pixels, std::size_t channels, const float* shift,
                          double* sums, double* squares);

  // Adds the gradients of outputs (with ReLU, of those above 0) to sums, and their products with the outputs to
  // products.
  template <bool rectify>
  void add_member_gradients(const float* output, const float* grad, std::size_t pixels, std::size_t channels,
                            double* sums, double* products);
)
// clang-format on

}  // namespace pythermo::cpu

// The whole kernel on the CPU.
namespace pythermo::cpu {

// As batch_norm_relu, of images [N, H, W, C, lanes] and output [N, h, w, C, lanes]; statistics [2, C, lanes].
void lanes_batch_norm(const TensorView& x, std::size_t pool, bool rectify, double eps,
                      const TensorView& output, const TensorView& statistics);

// Writes the gradients of x, which may take its place.
void lanes_batch_norm_backward(const TensorView& x, std::size_t pool, bool rectify, const TensorView& output,
                               const TensorView& statistics, const TensorView& grad,
                               const TensorView& grad_x);

}  // namespace pythermo::cpu
