// Distances between points: differences first, then squares, which is exact to rounding at any spread; and
// the order of neighbors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "keep_going.hpp"
#include "portable.hpp"
#include "tensor_view.hpp"

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
struct Neighbor {
  double squared;
  std::int64_t index;
};

PYTHERMO_INLINE bool operator<(const Neighbor& a, const Neighbor& b) {
  return a.squared < b.squared || (a.squared == b.squared && a.index < b.index);
}

// What is kept of a neighbor: its squared distance alone, or its index as well.
template <class Candidate>
PYTHERMO_INLINE Candidate candidate(double squared, std::size_t index) {
  if constexpr (sizeof(Candidate) == sizeof(double)) {
    return squared;
  } else {
    return {squared, static_cast<std::int64_t>(index)};
  }
}
PYTHERMO_INLINE double squared_of(double candidate) { return candidate; }
PYTHERMO_INLINE double squared_of(const Neighbor& candidate) { return candidate.squared; }

}  // namespace pythermo::knn

// The whole kernel on the CPU: checks, threads and vectors.
namespace pythermo::cpu {

// A row of a batch of clouds [clouds, points, dim] that holds NaN or infinity.
struct BadRow {
  std::size_t cloud, point;
};

// Distances [clouds * points * k] float64 to the k nearest other points, ascending, and if `indices` int64 is
// not empty, which points these are; of equally distant ones those of the lower index. Returns the first row
// that is not finite, if there is one. The same bits for any number of threads. Each throws
// std::invalid_argument for wrong sizes and for squared distances that overflow.
std::optional<BadRow> knn_distances(const TensorView& points, std::size_t k, const TensorView& distances,
                                    const TensorView& indices, int threads, const KeepGoing& keep_going);

// Sums [clouds * ks] float64 of the distances to the power gamma from all points to their k nearest others,
// for each k of ks, which ascend strictly.
std::optional<BadRow> knn_distance_sums(const TensorView& points, const std::vector<std::size_t>& ks,
                                        double gamma, const TensorView& sums, int threads,
                                        const KeepGoing& keep_going);

// Brings a matrix [points * points] float64 of squared distances, infinity on its diagonal, up to date after
// the `changed` points from `first` on have changed. `points` is one cloud.
std::optional<BadRow> update_squared_distances(const TensorView& points, std::size_t first,
                                               std::size_t changed, const TensorView& matrix, int threads,
                                               const KeepGoing& keep_going);

// The sums of knn_distance_sums from such a matrix, the points from `without` to before `without_end` left
// out.
void matrix_distance_sums(const TensorView& matrix, const std::vector<std::size_t>& ks, double gamma,
                          std::size_t without, std::size_t without_end, const TensorView& sums, int threads,
                          const KeepGoing& keep_going);

}  // namespace pythermo::cpu
