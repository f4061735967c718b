// The sums of a stochastic gradient that its signal-to-noise ratio needs, on a CUDA device.
#pragma once

#include <cstdint>

#include "../tensor_view.hpp"

namespace pythermo::cuda {

std::size_t gradient_workspace_size();

// As cpu::gradient_sums, in one launch that nothing waits for. `workspace` is float64 of that size, `counter`
// int64 [1] and 0, which it is again afterwards; both of one stream at a time. The same bits for any number
// of threads in a block, a multiple of 32 up to 256.
void gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                   const TensorView& sums, const TensorView& workspace, const TensorView& counter,
                   std::uintptr_t stream, unsigned threads);

}  // namespace pythermo::cuda
