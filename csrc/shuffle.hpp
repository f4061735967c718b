// Random permutations that are made as they are used (Fisher and Yates), one per epoch, and cut into batches.
//
// `Order` is where a permutation lies: get(i) and set(i, value).
#pragma once

#include <cstdint>

#include "portable.hpp"
#include "random.hpp"

namespace pythermo {

// How many of the samples an epoch uses: what does not fill a last batch is left out.
PYTHERMO_INLINE std::uint64_t draws_per_epoch(std::uint64_t samples, std::uint64_t batch_size) {
  return samples / batch_size * batch_size;
}

// The words of one position of a stream serve four draws.
PYTHERMO_INLINE std::uint64_t draw_position(std::uint64_t draw) { return draw / 4; }
PYTHERMO_INLINE std::uint64_t draw_word(std::uint64_t draw) { return draw % 4; }

template <class Order>
PYTHERMO_INLINE void begin_shuffle(Order order, std::uint64_t samples) {
  for (std::uint64_t i = 0; i < samples; ++i) order.set(i, i);
}

// Where the sample at a place comes from, by a random 32-bit word: from this place or one behind it.
template <class Word>
PYTHERMO_INLINE Word shuffled_from(Word word, std::uint64_t place, std::uint64_t samples) {
  return index_below(word, samples - place) + place;
}

// Swaps the samples at both places and returns the one that is now at `place`.
template <class Order>
PYTHERMO_INLINE auto swap_to(Order order, std::uint64_t place, std::uint64_t from) {
  const auto chosen = order.get(from);
  order.set(from, order.get(place));
  order.set(place, chosen);
  return chosen;
}

}  // namespace pythermo
