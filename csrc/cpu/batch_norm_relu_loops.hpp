// The loops over a row of pixels, built for each instruction set. The channels of a pixel lie side by side.
#pragma once

#include <cstddef>

#include "../batch_norm_relu.hpp"
#include "instruction_set.hpp"

namespace pythermo::cpu {

// One or two rows of `width` pixels that are pooled together to `width / pool`.
struct RowShape {
  std::size_t width, channels;
};

// By channel: what an element is normalized with, and what its gradient needs beside.
template <class T>
struct ChannelConstants {
  const T *mean, *scale, *mean_grad, *slope;
};

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Adds those of x - shift to the moments of each channel.
  template <class T>
  void add_moments(const T* x, std::size_t pixels, std::size_t channels, const T* shift,
                   batch_norm::Moments* moments);

  // Adds the gradients of outputs above 0, and in the place of squares their products with the outputs.
  template <class T>
  void add_gradients(const T* output, const T* grad, std::size_t pixels, std::size_t channels,
                     batch_norm::Moments* sums);

  // The largest of pool x pool pixels, normalized, and ReLU.
  template <class T, std::size_t pool>
  void forward_row(const T* x, RowShape shape, const ChannelConstants<T>& constants, T* output);

  // The gradients of all pixels; `grad` is null for a row that is left over by the pooling.
  template <class T, std::size_t pool>
  void backward_row(const T* x, RowShape shape, const ChannelConstants<T>& constants, const T* grad, T* grad_x);
)
// clang-format on

}  // namespace pythermo::cpu
