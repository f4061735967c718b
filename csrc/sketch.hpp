// The random signs and shifts of a sketch, functions of seed and place.
#pragma once

#include <cstdint>

#include "primitives.hpp"
#include "random.hpp"
#include "tensor_view.hpp"

namespace pythermo {

// By how many places the weights of a row are shifted, below `size`.
PYTHERMO_INLINE std::uint64_t sketch_shift(std::uint64_t seed, std::uint64_t row, std::uint64_t size) {
  return index_below(random_words<std::uint64_t>(seed, Stream::sketch_shifts, 0, row).word[0], size);
}

// The signs of 128 weights, one of which is at `place`.
PYTHERMO_INLINE RandomWords<std::uint64_t> sketch_signs(std::uint64_t seed, std::uint64_t place) {
  return random_words<std::uint64_t>(seed, Stream::sketch_signs, 0, place / 128);
}

PYTHERMO_INLINE double with_sign(double weight, const RandomWords<std::uint64_t>& signs,
                                 std::uint64_t place) {
  const std::uint64_t low = place / 32 % 2 == 0 ? signs.word[0] : signs.word[1];
  const std::uint64_t high = place / 32 % 2 == 0 ? signs.word[2] : signs.word[3];
  const std::uint64_t bit = (place / 64 % 2 == 0 ? low : high) >> (place % 32) & 1;
  return same_bits<double>(same_bits<std::uint64_t>(weight) ^ bit << 63);
}

}  // namespace pythermo

// The whole kernel on the CPU: checks, threads and vectors.
namespace pythermo::cpu {

// Adds each weight, with a random sign, to one of the elements of `out` [size] float64: the weights in rows
// of that size, each row shifted by a random number of places. Signs and shifts depend on seed and place
// alone. Throws std::invalid_argument for an empty `out`.
void sketch(const TensorView& weights, const TensorView& out, std::uint64_t seed);

}  // namespace pythermo::cpu

// The whole kernel on a CUDA device.
namespace pythermo::cuda {

// As its namesake in cpu, with the same bits; without a wait.
void sketch(const TensorView& weights, const TensorView& out, std::uint64_t seed, std::uintptr_t stream);

}  // namespace pythermo::cuda
