// The loops over pairs of points, built for each instruction set.
#pragma once

#include <cstddef>

#include "instruction_set.hpp"

namespace pythermo::cpu {

// Points of many coordinates whose pairs are taken together, and of few coordinates that lie side by side.
constexpr std::size_t block_points = 72, leaf_points = 64;

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Squared distances from rows a[i * stride] to rows b[j * stride] of dim elements each, at
  // squared[i * block_points + j]. Of a block with itself (a == b) those with j > i only. `scratch` holds
  // block_scratch_bytes and is aligned to 64.
  template <class T>
  void block_distances(const T* a, std::size_t count_a, const T* b, std::size_t count_b, std::size_t stride,
                       std::size_t dim, double* squared, std::byte* scratch);
  std::size_t block_scratch_bytes();

  // Squared distances from x [dim] to the points of a leaf [dim, leaf_points].
  void leaf_distances(const double* x, const double* leaf, std::size_t dim, double* squared);

  // Sorts values, which are readable up to a multiple of widest_vector.
  void sort_few(const double* values, std::size_t count, double* sorted);
)
// clang-format on

}  // namespace pythermo::cpu
