#include <algorithm>
#include <cmath>
#include <functional>

#include "../checks.hpp"
#include "../knn.hpp"
#include "knn_differences.cuh"
#include "knn_products.cuh"
#include "knn_selection.cuh"
#include "knn_tiles.cuh"
#include "launch.hpp"

namespace pythermo::cuda {
namespace {

// As many rows as make whole tiles, if there is one.
std::size_t whole_tiles(std::size_t rows) { return rows < tile_side ? rows : rows / tile_side * tile_side; }

constexpr std::size_t longest_in_shared_memory = 2048;

// How the k nearest among so many are found.
struct Selection {
  bool sifted;
  std::size_t sorted_size;
  std::size_t workspace_words;  // of each row

  Selection(std::size_t columns, std::size_t k, std::size_t longest_sorted) {
    require(longest_sorted <= longest_in_shared_memory, "longest_sorted: must be at most 2048");
    require(columns <= 0xffffffffu, "points: too many, there must be fewer than 2^32");
    sifted = columns > longest_sorted;
    sorted_size = padded(sifted ? k : columns);
    const bool fits = !sifted || sorted_size <= longest_sorted;
    workspace_words = fits ? 0 : sorted_size * (sizeof(knn::Neighbor) / sizeof(double));
  }
};

// Hands out parts of a workspace of words of 8 bytes.
class Workspace {
 public:
  explicit Workspace(const TensorView& view) : words_(device_vector<double>(view)) {}

  template <class T>
  T* take(std::size_t words) {
    require(words <= left(), "workspace: is too small");
    double* const from = words_.data + taken_;
    taken_ += words;
    return reinterpret_cast<T*>(from);
  }
  std::size_t left() const { return words_.size - taken_; }
  double* rest() const { return words_.data + taken_; }

 private:
  VectorView<double> words_;
  std::size_t taken_ = 0;
};

// At most so many tiles are computed segment by segment: as many as a large device has room for at once.
constexpr std::size_t most_split_tiles = 320;

// Whether float points of so many coordinates are compared by their products.
bool by_products(std::size_t dim) {
  return dim >= fewest_coordinates_by_products && has_products_in_double();
}

// What the segments of tiles need of the workspace.
std::size_t split_words(std::size_t tiles, std::size_t dim) {
  const std::size_t segments = most_segments_of(dim), at_once = std::min(tiles, most_split_tiles) * segments;
  if (by_products(dim)) return at_once * product_sums_of_tile;
  return segments == 1 ? 0 : at_once * pairs_of_tile;
}

std::size_t tiles_of(std::size_t points) { return (points + tile_side - 1) / tile_side; }

std::size_t split_words_of_clouds(std::size_t clouds, std::size_t points, std::size_t dim) {
  return split_words(clouds * tiles_of(points) * tiles_of(points), dim);
}

// How many rows of squared distances, and of what sorting them needs, the words of a workspace hold: those of
// whole clouds if there is room for the distances of one, as these are symmetric, otherwise strips of a
// cloud.
struct Strips {
  std::size_t clouds_at_once = 1, rows_at_once, sorted_at_once;

  Strips(std::size_t clouds, std::size_t n, std::size_t sorting_words, std::size_t words) {
    const std::size_t fitting = words / (n + sorting_words);
    if (fitting >= n) {
      clouds_at_once = std::min(fitting / n, clouds);
      rows_at_once = n;
      sorted_at_once = clouds_at_once * n;
    } else if (words >= whole_words(n, sorting_words)) {
      rows_at_once = n;
      sorted_at_once = (words - n * n) / sorting_words;
    } else {
      rows_at_once = sorted_at_once = whole_tiles(fitting);
    }
  }

  // What the distances of a whole cloud need, and sorting a part of them.
  static std::size_t whole_words(std::size_t n, std::size_t sorting_words) {
    return n * n + std::min<std::size_t>(n, tile_side) * sorting_words;
  }
};

// What the sums over ks need of the workspace beside the squared distances.
std::size_t sums_words(std::size_t rows, std::size_t ks) { return ks + rows * ks; }

// Adds up each cloud's sums [clouds, points, count] by the tree of a warp.
__global__ void __launch_bounds__(most_selection_threads)
    add_points_kernel(const double* each, std::size_t points, std::size_t count, double* sums) {
  const double* const of_cloud = each + blockIdx.x * points * count;
  for (std::size_t w = threadIdx.x / warp_threads; w < count; w += blockDim.x / warp_threads) {
    double sum = 0.0;
#pragma unroll 2  // unrolled further, it spills registers
    for (std::size_t i = lane_index(); i < points; i += warp_threads) sum += of_cloud[i * count + w];
    sum = warp_sum(sum);
    if (lane_index() == 0) sums[blockIdx.x * count + w] = sum;
  }
}

// The launches of one call.
class Knn {
 public:
  explicit Knn(const KnnArguments& arguments)
      : arguments_(arguments),
        workspace_(arguments.workspace),
        status_(device_array<std::int64_t>(arguments.status, 1)),
        stream_(reinterpret_cast<cudaStream_t>(arguments.stream)) {
    require_threads(arguments.threads, most_selection_threads);
  }

  template <class T>
  void compute_pairs(PairsJob<T> job, std::size_t clouds, double* split, std::size_t split_size) const {
    job.segment_stages = stages_per_segment<T>(job.dim);
    if constexpr (sizeof(T) == 4) {
      if (by_products(job.dim)) {
        compute_by_products(job, clouds, split, split_size);
      } else {
        compute_by_differences(job, clouds, split, split_size);
      }
      launch({"make_again", clouds * job.tiles_of_cloud(), tile_threads, tile_shared_bytes}, stream_,
             &make_again_kernel, job);
    } else {
      compute_by_differences(job, clouds, split, split_size);
    }
  }

  // As many tiles at once as there is room for in `split`, each by several blocks.
  void compute_by_products(PairsJob<float> job, std::size_t clouds, double* split,
                           std::size_t split_size) const {
    const std::size_t tiles = clouds * job.tiles_of_cloud(), segments = job.segments();
    const std::size_t fitting = split_size / (segments * product_sums_of_tile);
    require(fitting > 0, "workspace: is too small");
    job.parts = split;
    for (job.first_tile = 0; job.first_tile < tiles; job.first_tile += job.tiles) {
      job.tiles = std::min({tiles - job.first_tile, fitting, most_split_tiles});
      launch(
          {"segment_products", job.tiles, tile_threads, tile_shared_bytes, static_cast<unsigned>(segments)},
          stream_, &segment_products_kernel, job);
      launch({"product_distances", job.tiles, tile_threads, tile_shared_bytes}, stream_,
             &product_distances_kernel, job, product_error(job));
    }
  }

  // Of the tiles that do not fill the device once more each is computed by several blocks, as far as there is
  // room in `split`.
  template <class T>
  void compute_by_differences(PairsJob<T> job, std::size_t clouds, double* split,
                              std::size_t split_size) const {
    const std::size_t tiles = clouds * job.tiles_of_cloud(), segments = job.segments();
    const auto kernel = &squared_distances_kernel<T>;
    const std::size_t at_once = blocks_at_once(kernel, tile_threads, tile_shared_bytes);
    const std::size_t fitting = std::min(split_size / (segments * pairs_of_tile), most_split_tiles);
    const std::size_t in_segments = segments == 1 ? 0 : std::min(tiles % at_once, fitting);
    job.tiles = tiles - in_segments;
    if (job.tiles > 0) {
      launch({"squared_distances", job.tiles, tile_threads, tile_shared_bytes}, stream_, kernel, job);
    }
    if (in_segments == 0) return;
    job.first_tile = job.tiles;
    job.tiles = in_segments;
    job.parts = split;
    launch({"segment_distances", job.tiles, tile_threads, tile_shared_bytes, static_cast<unsigned>(segments)},
           stream_, &segment_distances_kernel<T>, job);
    launch({"add_segments", job.tiles, tile_threads, tile_shared_bytes}, stream_, &add_segments_kernel<T>,
           job);
  }

  template <class Candidate, class Finish>
  void select(const SelectionJob& job, const Finish& finish) const {
    const std::size_t candidates = job.workspace == nullptr ? job.sorted_size * sizeof(Candidate) : 0;
    const std::size_t useful = job.sifted ? most_selection_threads : job.sorted_size / 2;
    const std::size_t threads =
        std::clamp<std::size_t>(useful, warp_threads, std::size_t{arguments_.threads});
    launch(
        {"select_neighbors", job.rows, static_cast<unsigned>(threads), sizeof(SelectionScratch) + candidates},
        stream_, &select_kernel<Candidate, Finish>, job, finish);
  }

  // Lets `finish` have the k nearest of every point, strip by strip of the rows that fit into the workspace.
  template <class Candidate, class T, class Finish>
  void nearest(const RowsView<T>& clouds, std::size_t k, const Finish& finish) {
    const std::size_t n = clouds.points;
    const Selection selection(n, k, arguments_.longest_sorted);
    const std::size_t split_size = split_words_of_clouds(clouds.count, n, clouds.dim);
    auto* const split = workspace_.take<double>(split_size);
    const Strips strips(clouds.count, n, selection.workspace_words, workspace_.left());
    require(strips.rows_at_once > 0, "workspace: is too small");
    auto* const squared = workspace_.take<double>(strips.clouds_at_once * strips.rows_at_once * n);
    void* const to_sort = workspace_for(selection, strips.sorted_at_once);
    for (std::size_t c = 0; c < clouds.count; c += strips.clouds_at_once) {
      for (std::size_t first = 0; first < n; first += strips.rows_at_once) {
        const std::size_t here = std::min(strips.clouds_at_once, clouds.count - c);
        PairsJob<T> pairs = pairs_of(clouds, c);
        pairs.first_row = pairs.row_base = first;
        pairs.rows = std::min(strips.rows_at_once, n - first);
        pairs.squared = squared;
        pairs.mirrored = pairs.rows == n;
        compute_pairs(pairs, here, split, split_size);
        const std::size_t rows = here * pairs.rows;
        for (std::size_t row = 0; row < rows; row += strips.sorted_at_once) {
          SelectionJob job = selection_of(selection, k, to_sort);
          job.squared = squared + row * n;
          job.rows = std::min(strips.sorted_at_once, rows - row);
          job.columns = n;
          job.first_place = c * n + first + row;
          select<Candidate>(job, finish);
        }
      }
    }
  }

  SelectionJob selection_of(const Selection& selection, std::size_t k, void* to_sort) const {
    SelectionJob job{};
    job.k = k;
    job.sifted = selection.sifted;
    job.sorted_size = selection.sorted_size;
    job.workspace = to_sort;
    job.status = status_;
    return job;
  }

  // Null where the candidates fit into shared memory.
  void* workspace_for(const Selection& selection, std::size_t rows) {
    if (selection.workspace_words == 0) return nullptr;
    return workspace_.take<double>(rows * selection.workspace_words);
  }

  template <class T>
  PairsJob<T> pairs_of(const RowsView<T>& clouds, std::size_t first_cloud) const {
    PairsJob<T> job{};
    job.points = clouds.data + first_cloud * clouds.count_stride;
    job.cloud_stride = clouds.count_stride;
    job.point_stride = clouds.point_stride;
    job.count = clouds.points;
    job.dim = clouds.dim;
    job.aligned = is_aligned(clouds.data) && clouds.point_stride % Pack<T>::width == 0 &&
                  clouds.count_stride % Pack<T>::width == 0;
    job.status = status_;
    job.first_cloud = first_cloud;
    return job;
  }

  SumPowers powers(const std::vector<std::size_t>& ks, double gamma, std::size_t rows) {
    const std::vector<std::int64_t> values(ks.begin(), ks.end());
    auto* const there = workspace_.take<std::int64_t>(ks.size());
    check(cudaMemcpyAsync(there, values.data(), values.size() * sizeof(std::int64_t), cudaMemcpyHostToDevice,
                          stream_),
          "ks");
    return {there, ks.size(), gamma, workspace_.take<double>(rows * ks.size())};
  }

  void add_points(const SumPowers& each, std::size_t clouds, std::size_t points, double* sums) const {
    launch({"add_points", clouds, arguments_.threads}, stream_, &add_points_kernel, each.sums, points,
           each.count, sums);
  }

 private:
  KnnArguments arguments_;
  Workspace workspace_;
  std::int64_t* status_;
  cudaStream_t stream_;
};

template <class Call>
void with_clouds(const TensorView& points, const Call& call) {
  if (points.scalar_type() == ScalarType::float32) {
    call(points.rows_on<float>(device_type));
  } else {
    call(points.rows_on<double>(device_type));
  }
}

}  // namespace

std::size_t knn_workspace_size(std::size_t clouds, std::size_t points, std::size_t dim, std::size_t k,
                               std::size_t ks, std::size_t longest_sorted, std::size_t bytes) {
  const std::size_t sorting = Selection(points, k, longest_sorted).workspace_words;
  const std::size_t words = bytes / sizeof(double), each = points + sorting, fitting = words / each;
  const std::size_t beside = sums_words(clouds * points, ks) + split_words_of_clouds(clouds, points, dim);
  if (fitting < points && words >= Strips::whole_words(points, sorting)) return beside + words;
  return beside + std::min(clouds * points, std::max<std::size_t>(fitting, tile_side)) * each;
}

std::size_t knn_update_workspace_size(std::size_t points, std::size_t changed, std::size_t dim) {
  return split_words(tiles_of(changed) * tiles_of(points), dim);
}

std::size_t knn_matrix_workspace_size(std::size_t points, std::size_t k, std::size_t ks,
                                      std::size_t longest_sorted) {
  return sums_words(points, ks) + points * Selection(points, k, longest_sorted).workspace_words;
}

void knn_distances(const TensorView& points, std::size_t k, const TensorView& distances,
                   const TensorView& indices, const KnnArguments& arguments) {
  with_clouds(points, [&]<class T>(const RowsView<T>& clouds) {
    require(k >= 1 && k < clouds.points, "k: must be from 1 to n - 1");
    const std::size_t size = clouds.count * clouds.points * k;
    const WriteNeighbors write{device_array<double>(distances, size),
                               optional_array<std::int64_t>(indices, size)};
    if (clouds.count == 0) return;
    Knn knn(arguments);
    if (write.indices == nullptr) {
      knn.nearest<double>(clouds, k, write);
    } else {
      knn.nearest<knn::Neighbor>(clouds, k, write);
    }
  });
}

void knn_distance_sums(const TensorView& points, const std::vector<std::size_t>& ks, double gamma,
                       const TensorView& sums, const KnnArguments& arguments) {
  with_clouds(points, [&]<class T>(const RowsView<T>& clouds) {
    require_ks(ks, clouds.points);
    auto* const out = device_array<double>(sums, clouds.count * ks.size());
    if (clouds.count == 0) return;
    Knn knn(arguments);
    const SumPowers powers = knn.powers(ks, gamma, clouds.count * clouds.points);
    knn.nearest<double>(clouds, ks.back(), powers);
    knn.add_points(powers, clouds.count, clouds.points, out);
  });
}

void update_squared_distances(const TensorView& points, std::size_t first, std::size_t changed,
                              const TensorView& matrix, const KnnArguments& arguments) {
  with_clouds(points, [&]<class T>(const RowsView<T>& clouds) {
    const std::size_t n = clouds.points;
    require(clouds.count == 1, "points: must be one cloud");
    require(first <= n && changed <= n - first, "changed: beyond the last point");
    auto* const squared = device_array<double>(matrix, n * n);
    if (changed == 0) return;
    const Knn knn(arguments);
    const Workspace workspace(arguments.workspace);
    PairsJob<T> job = knn.pairs_of(clouds, 0);
    job.first_row = first;
    job.rows = changed;
    job.squared = squared;
    job.mirrored = true;
    knn.compute_pairs(job, 1, workspace.rest(), workspace.left());
  });
}

void matrix_distance_sums(const TensorView& matrix, const std::vector<std::size_t>& ks, double gamma,
                          std::size_t without, std::size_t without_end, const TensorView& sums,
                          const KnnArguments& arguments) {
  const VectorView<double> squared = device_vector<double>(matrix);
  const auto n = static_cast<std::size_t>(std::llround(std::sqrt(static_cast<double>(squared.size))));
  require(n * n == squared.size, "matrix: must be square");
  require(without <= without_end && without_end <= n, "without: must be a range of points");
  const std::size_t left = n - (without_end - without);
  require_ks(ks, left);
  auto* const out = device_array<double>(sums, ks.size());
  Knn knn(arguments);
  const SumPowers powers = knn.powers(ks, gamma, left);
  const Selection selection(left, ks.back(), arguments.longest_sorted);
  SelectionJob job = knn.selection_of(selection, ks.back(), knn.workspace_for(selection, left));
  job.squared = squared.data;
  job.rows = job.columns = left;
  job.without = without;
  job.gap = without_end - without;
  knn.select<double>(job, powers);
  knn.add_points(powers, 1, left, out);
}

}  // namespace pythermo::cuda
