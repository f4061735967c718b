// Nearest neighbors in clouds of points, exact at any spread, on a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "../tensor_view.hpp"

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
// more than 1024 coordinates need up to 160 MB beside them.
std::size_t knn_workspace_size(std::size_t clouds, std::size_t points, std::size_t dim, std::size_t k,
                               std::size_t ks, std::size_t longest_sorted, std::size_t bytes);

// As their namesakes in cpu/knn.hpp, over tensors on the device, without a wait: what is wrong with the
// points is left in the status word. The same bits for any threads, workspace and longest_sorted. Throw
// std::invalid_argument for arguments that do not fit, std::runtime_error for what CUDA refuses.
void knn_distances(const TensorView& points, std::size_t k, const TensorView& distances,
                   const TensorView& indices, const KnnArguments& arguments);
void knn_distance_sums(const TensorView& points, const std::vector<std::size_t>& ks, double gamma,
                       const TensorView& sums, const KnnArguments& arguments);

// Needs no workspace, but is faster with one of knn_update_workspace_size(...).
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
