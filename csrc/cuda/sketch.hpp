// Random projections of weight vectors, on a CUDA device.
#pragma once

#include <cstdint>

#include "../tensor_view.hpp"

namespace pythermo::cuda {

// As its namesake in cpu/sketch.hpp, with the same bits; without a wait.
void sketch(const TensorView& weights, const TensorView& out, std::uint64_t seed, std::uintptr_t stream);

}  // namespace pythermo::cuda
