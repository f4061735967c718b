// Nearest neighbours in clouds of points, exact at any spread, on the CPU.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "../tensor_view.hpp"

namespace pythermo::cpu {

// Called by the calling thread a few times a second; if it returns false the work stops, its outputs useless.
using KeepGoing = std::function<bool()>;

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
