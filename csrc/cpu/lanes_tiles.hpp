// Tiles of sums in registers: each vector loaded serves several products, and there are more sums than an
// addition takes cycles.
#pragma once

#include <cstddef>
#include <type_traits>

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {

constexpr std::size_t lanes = register_lanes<float>;

// So many vectors of one side by so many of the other.
constexpr std::size_t tile_rows = vector_bytes == 64 ? 7 : 6;
constexpr std::size_t tile_columns = vector_bytes == 64 ? 4 : 2;

// Sums [rows, columns].
template <std::size_t rows, std::size_t columns>
struct Tile {
  Members sums[rows][columns];

  PYTHERMO_INLINE void clear() {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < rows; ++p) {
#pragma GCC unroll 8
      for (std::size_t q = 0; q < columns; ++q) sums[p][q] = Members{};
    }
  }

  PYTHERMO_INLINE void load(const float* from, std::size_t row_step) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < rows; ++p) {
#pragma GCC unroll 8
      for (std::size_t q = 0; q < columns; ++q) sums[p][q] = load_members(from + p * row_step + q * lanes);
    }
  }

  // Brings what will be written next to the cache: a vector stored elsewhere waits for its line.
  static PYTHERMO_INLINE void fetch(const float* at, std::size_t row_step) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < rows; ++p) {
#pragma GCC unroll 8
      for (std::size_t q = 0; q < columns; ++q) __builtin_prefetch(at + p * row_step + q * lanes, 1);
    }
  }

  // Adds the products of each of `left`, at equal steps, with each of `right`, side by side.
  PYTHERMO_INLINE void add(const float* left, std::size_t left_step, const float* right) {
    Members factors[columns];
#pragma GCC unroll 8
    for (std::size_t q = 0; q < columns; ++q) factors[q] = in_register(load_members(right + q * lanes));
#pragma GCC unroll 8
    for (std::size_t p = 0; p < rows; ++p) {
      const Members value = in_register(load_members(left + p * left_step));
#pragma GCC unroll 8
      for (std::size_t q = 0; q < columns; ++q) sums[p][q] += value * factors[q];
    }
  }

  PYTHERMO_INLINE void store_to(float* to, std::size_t row_step) const {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < rows; ++p) {
#pragma GCC unroll 8
      for (std::size_t q = 0; q < columns; ++q) store(sums[p][q], to + p * row_step + q * lanes);
    }
  }
};

PYTHERMO_INLINE std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

// Calls call(std::integral_constant<std::size_t, count>) for a count from 1 to `most`.
template <std::size_t most, class Call>
PYTHERMO_INLINE void with_count(std::size_t count, const Call& call) {
  if constexpr (most > 0) {
    if (count == most) {
      call(std::integral_constant<std::size_t, most>{});
    } else {
      with_count<most - 1>(count, call);
    }
  }
}

// Calls call(first, size) for tiles of at most so many, which are alike.
template <class Call>
PYTHERMO_INLINE void each_tile(std::size_t count, std::size_t most, const Call& call) {
  std::size_t first = 0;
  for (std::size_t tiles = (count + most - 1) / most; tiles > 0; --tiles) {
    const std::size_t size = (count - first + tiles - 1) / tiles;
    call(first, size);
    first += size;
  }
}

}  // namespace pythermo::cpu::PYTHERMO_ISA
