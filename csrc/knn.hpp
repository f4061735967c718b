// Distances between points: differences first, then squares, which is exact to rounding at any spread; and
// the order of neighbours.
#pragma once

#include <cstddef>
#include <cstdint>

#include "portable.hpp"

namespace pythermo::knn {

// Squares are added up in lanes of the points' own precision over runs of this many terms, and in double
// beyond. Each term is rounded once for its difference (which counts twice), and at most once per addition:
// the relative error of a distance is at most (run + 3) / 2 units of rounding, 2^-24 or 2^-53.
template <class T>
constexpr std::size_t run_length = 60;  // 3.5e-15, beside what the sums of runs add
template <>
inline constexpr std::size_t run_length<float> = 29;  // 9.5e-7

// Whether a sum of squares in the precision T has lost nothing to underflow or overflow.
template <class T>
PYTHERMO_INLINE bool exact_in(double sum_of_squares, std::size_t dim) {
  if constexpr (sizeof(T) == 8) return true;
  return sum_of_squares > static_cast<double>(dim) * 0x1p-100 && sum_of_squares < 1e30;
}

// Of equally distant points the one with the lower index comes first.
struct Neighbour {
  double squared;
  std::int64_t index;
};

PYTHERMO_INLINE bool operator<(const Neighbour& a, const Neighbour& b) {
  return a.squared < b.squared || (a.squared == b.squared && a.index < b.index);
}

// What is kept of a neighbour: its squared distance alone, or its index as well.
template <class Candidate>
PYTHERMO_INLINE Candidate candidate(double squared, std::size_t index) {
  if constexpr (sizeof(Candidate) == sizeof(double)) {
    return squared;
  } else {
    return {squared, static_cast<std::int64_t>(index)};
  }
}
PYTHERMO_INLINE double squared_of(double candidate) { return candidate; }
PYTHERMO_INLINE double squared_of(const Neighbour& candidate) { return candidate.squared; }

}  // namespace pythermo::knn
