// What one element of a stochastic gradient adds to the sums that its signal-to-noise ratio needs.
#pragma once

#include <cstdint>

#include "portable.hpp"
#include "tensor_view.hpp"

namespace pythermo {

struct GradientSums {
  double squared = 0.0;   // |g|^2
  double distance = 0.0;  // |g - center|^2

  PYTHERMO_INLINE void add(double grad, double center) {
    const double apart = grad - center;
    squared += grad * grad;
    distance += apart * apart;
  }

  PYTHERMO_INLINE void add(const GradientSums& other) {
    squared += other.squared;
    distance += other.distance;
  }
};

}  // namespace pythermo

// The whole kernel on the CPU: checks, threads and vectors.
namespace pythermo::cpu {

// sums[0] = |grad|^2 and sums[1] = |grad - center|^2 in one pass, which also adds grad to `total`. `center`
// and `total` are float64 like `sums`, and may be empty: then there is no center but 0, or nothing to add to.
// The same bits for any number of threads. Throws std::invalid_argument for sizes that differ.
void gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                   const TensorView& sums, int threads);

}  // namespace pythermo::cpu

// The whole kernel on a CUDA device.
namespace pythermo::cuda {

std::size_t gradient_workspace_size();

// As cpu::gradient_sums, in one launch that nothing waits for. `workspace` is float64 of that size, `counter`
// int64 [1] and 0, which it is again afterwards; both of one stream at a time. The same bits for any number
// of threads in a block, a multiple of 32 up to 256.
void gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                   const TensorView& sums, const TensorView& workspace, const TensorView& counter,
                   std::uintptr_t stream, unsigned threads);

}  // namespace pythermo::cuda
