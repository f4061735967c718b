#include "../minibatches.hpp"

#include <stdexcept>

namespace pythermo::cpu {

void minibatches(const TensorView& draws, std::size_t population, const TensorView& indices) {
  const auto drawn = draws.sizes(2), out = indices.sizes(2);
  if (drawn[1] != 5) throw std::invalid_argument("draws: must have the shape [draws, 5]");
  if (out[0] != drawn[0]) throw std::invalid_argument("indices: must have a row for each draw");
  if (population < 1 || population > UINT32_MAX) {
    throw std::invalid_argument("population: must be from 1 to 4294967295");
  }
  const std::int64_t* const draw = draws.array<std::int64_t>();
  std::int64_t* const index = indices.array<std::int64_t>();
  for (std::size_t row = 0; row < out[0]; ++row) {
    const auto part = [&](std::size_t i) { return static_cast<std::uint64_t>(draw[5 * row + i]); };
    PhiloxWords words(part(0), part(1), part(2), part(3), part(4));
    for (std::size_t i = 0; i < out[1]; ++i) {
      index[row * out[1] + i] = integer_below(words, static_cast<std::uint32_t>(population));
    }
  }
}

}  // namespace pythermo::cpu
