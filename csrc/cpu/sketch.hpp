// Random projections of weight vectors to fewer numbers, with their distances unchanged on average.
#pragma once

#include <cstdint>

#include "../tensor_view.hpp"

namespace pythermo::cpu {

// Adds each weight, with a random sign, to one of the elements of `out` [size] float64: the weights in rows
// of that size, each row shifted by a random number of places. Signs and shifts depend on seed and place
// alone. Throws std::invalid_argument for an empty `out`.
void sketch(const TensorView& weights, const TensorView& out, std::uint64_t seed);

}  // namespace pythermo::cpu
