// Distances between points: differences first, then squares, which is exact to rounding at any spread; and
// the order of neighbors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "cpu/instruction_set.hpp"
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

// The loops over pairs of points, built for each instruction set.
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

// The whole kernel on a CUDA device.
namespace pythermo::cuda {

// What the status word holds if not the index (cloud * points + point) of the first row that is not finite.
namespace knn_status {
constexpr std::int64_t fine = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t too_far_apart = fine - 1;  // squared distances overflow
}  // namespace knn_status

// What all kernels need beside their data.
struct KnnArguments {
  TensorView workspace;  // [knn_workspace_size(...)] float64; of one stream at a time
  TensorView status;     // [1] int64: set to knn_status::fine before; only ever lowered
  std::uintptr_t stream;
  unsigned threads;            // of a block that selects, at most 256: the same bits for any multiple of 32
  std::size_t longest_sorted;  // rows up to so many distances, at most 2048, are sorted; others sifted first
};

// Squared distances are kept for as many rows at once as fit into `bytes`, but for 64 at least. Points of
// more than 1024 coordinates need up to 160 MB beside them, 220 MB where a device compares by products.
std::size_t knn_workspace_size(std::size_t clouds, std::size_t points, std::size_t dim, std::size_t k,
                               std::size_t ks, std::size_t longest_sorted, std::size_t bytes);

// As their namesakes in cpu, over tensors on the device, without a wait: what is wrong with the
// points is left in the status word. The same bits for any threads, workspace and longest_sorted. Throw
// std::invalid_argument for arguments that do not fit, std::runtime_error for what CUDA refuses.
void knn_distances(const TensorView& points, std::size_t k, const TensorView& distances,
                   const TensorView& indices, const KnnArguments& arguments);
void knn_distance_sums(const TensorView& points, const std::vector<std::size_t>& ks, double gamma,
                       const TensorView& sums, const KnnArguments& arguments);

// With a workspace of knn_update_workspace_size(...): by differences it needs none, but is faster with it.
void update_squared_distances(const TensorView& points, std::size_t first, std::size_t changed,
                              const TensorView& matrix, const KnnArguments& arguments);
std::size_t knn_update_workspace_size(std::size_t points, std::size_t changed, std::size_t dim);

// Needs no squared distances in its workspace, of knn_matrix_workspace_size(...).
std::size_t knn_matrix_workspace_size(std::size_t points, std::size_t k, std::size_t ks,
                                      std::size_t longest_sorted);
void matrix_distance_sums(const TensorView& matrix, const std::vector<std::size_t>& ks, double gamma,
                          std::size_t without, std::size_t without_end, const TensorView& sums,
                          const KnnArguments& arguments);

}  // namespace pythermo::cuda
