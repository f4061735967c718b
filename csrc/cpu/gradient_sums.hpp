// The sums of a stochastic gradient that its signal-to-noise ratio needs, on the CPU.
#pragma once

#include "../tensor_view.hpp"

namespace pythermo::cpu {

// sums[0] = |grad|^2 and sums[1] = |grad - center|^2 in one pass, which also adds grad to `total`. `center`
// and `total` are float64 like `sums`, and may be empty: then there is no center but 0, or nothing to add to.
// The same bits for any number of threads. Throws std::invalid_argument for sizes that differ.
void gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                   const TensorView& sums, int threads);

}  // namespace pythermo::cpu
