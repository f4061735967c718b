// The k nearest neighbors in order, from rows of squared distances; a block to each row.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <limits>

#include "../knn.hpp"
#include "../primitives.hpp"
#include "knn_status.cuh"
#include "radix_selection.cuh"
#include "warp.cuh"

namespace pythermo::cuda {

constexpr unsigned most_selection_threads = 256;

// The least power of two that is not less, as sorting needs it.
inline std::size_t padded(std::size_t size) {
  std::size_t power = 1;
  while (power < size) power *= 2;
  return power;
}

struct SelectionJob {
  const double* squared;  // [rows and those left out, columns and those left out]
  std::size_t rows, columns;
  std::size_t without, gap;  // so many rows and columns from `without` on are left out
  std::size_t k;
  bool sifted;              // whether only what belongs to the k nearest is sorted, or the whole row
  std::size_t sorted_size;  // a power of two
  void* workspace;          // [rows, sorted_size] candidates, or null if these fit into shared memory
  std::size_t first_place;  // of the results of the first row, and modulo columns of the point itself
  std::int64_t* status;
};

class Row {
 public:
  __device__ __forceinline__ Row(const SelectionJob& job, std::size_t row)
      : data_(job.squared + beyond_gap(job, row) * (job.columns + job.gap)),
        self_((job.first_place + row) % job.columns),
        job_(job) {}

  // Calls use(value, column) for this thread's share.
  template <class Use>
  __device__ __forceinline__ void each(const Use& use) const {
    for (std::size_t j = threadIdx.x; j < job_.columns; j += blockDim.x) use(data_[beyond_gap(job_, j)], j);
  }

  // Without that from the point to itself.
  template <class Use>
  __device__ __forceinline__ void each_other(const Use& use) const {
    each([&](double value, std::size_t j) {
      if (j != self_) use(value, j);
    });
  }

 private:
  static __device__ __forceinline__ std::size_t beyond_gap(const SelectionJob& job, std::size_t index) {
    return index < job.without ? index : index + job.gap;
  }

  const double* data_;
  std::size_t self_;
  const SelectionJob& job_;
};

constexpr std::size_t after_all_indices = std::numeric_limits<std::int64_t>::max();

// What is sorted after all points.
template <class Candidate>
__device__ __forceinline__ Candidate nothing() {
  return knn::candidate<Candidate>(infinity, after_all_indices);
}

// Sorts a power of two of values by a block (Batcher 1968).
template <class Value>
__device__ __forceinline__ void sort_in_block(Value* values, std::size_t size) {
  __syncthreads();
  for (std::size_t span = 2; span <= size; span *= 2) {
    for (std::size_t distance = span / 2; distance > 0; distance /= 2) {
      for (std::size_t i = threadIdx.x; i < size / 2; i += blockDim.x) {
        const std::size_t low = (i & ~(distance - 1)) * 2 | (i & (distance - 1)), high = low + distance;
        const Value a = values[low], b = values[high];
        if ((low & span) == 0 ? b < a : a < b) {
          values[low] = b;
          values[high] = a;
        }
      }
      __syncthreads();
    }
  }
}

// Writes those of a row that belong to its k nearest, in no order.
template <class Candidate>
__device__ __forceinline__ void sift(const Row& row, std::size_t k, Candidate* nearest,
                                     SelectionScratch& scratch) {
  // Doubles that are not negative are ordered as their bits are.
  const RankedWord last = select_word(
      static_cast<unsigned>(k - 1),
      [&](const auto& use) {
        row.each_other([&](double value, std::size_t) { use(same_bits<std::uint64_t>(value)); });
      },
      scratch);
  std::uint64_t last_index = ~std::uint64_t{0};
  if (last.rank + 1 < last.same) {  // of those at the last distance only the first
    last_index = select_word(
                     last.rank,
                     [&](const auto& use) {
                       row.each_other([&](double value, std::size_t j) {
                         if (same_bits<std::uint64_t>(value) == last.word) use(j);
                       });
                     },
                     scratch)
                     .word;
  }
  unsigned& found = scratch.same;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  row.each_other([&](double value, std::size_t j) {
    const std::uint64_t word = same_bits<std::uint64_t>(value);
    if (word < last.word || (word == last.word && j <= last_index)) {
      nearest[atomicAdd(&found, 1u)] = knn::candidate<Candidate>(value, j);
    }
  });
}

// `finish(sorted, k, place)` is called by all threads of a block with the k nearest, which it may overwrite,
// and the place of the result.
template <class Candidate, class Finish>
__global__ void __launch_bounds__(most_selection_threads)
    select_kernel(const SelectionJob job, const Finish finish) {
  auto& scratch = *shared_memory<SelectionScratch>();
  auto* const candidates = job.workspace != nullptr
                               ? static_cast<Candidate*>(job.workspace) + blockIdx.x * job.sorted_size
                               : reinterpret_cast<Candidate*>(&scratch + 1);
  const Row row(job, blockIdx.x);
  std::size_t count = job.columns;
  if (job.sifted) {
    sift(row, job.k, candidates, scratch);
    count = job.k;
  } else {
    row.each([&](double value, std::size_t j) { candidates[j] = knn::candidate<Candidate>(value, j); });
  }
  for (std::size_t j = count + threadIdx.x; j < job.sorted_size; j += blockDim.x) {
    candidates[j] = nothing<Candidate>();
  }
  sort_in_block(candidates, job.sorted_size);
  if (threadIdx.x == 0 && !(knn::squared_of(candidates[job.k - 1]) < infinity)) {
    report(job.status, knn_status::too_far_apart);
  }
  __syncthreads();
  finish(candidates, job.k, job.first_place + blockIdx.x);
}

// Distances [rows, k], and indices if they are asked for.
struct WriteNeighbors {
  double* distances;
  std::int64_t* indices;

  template <class Candidate>
  __device__ __forceinline__ void operator()(const Candidate* nearest, std::size_t k,
                                             std::size_t place) const {
    for (std::size_t j = threadIdx.x; j < k; j += blockDim.x) {
      distances[place * k + j] = sqrt(knn::squared_of(nearest[j]));
      if constexpr (sizeof(Candidate) > sizeof(double)) indices[place * k + j] = nearest[j].index;
    }
  }
};

// Sums [rows, count] of the distances to a power over the ks nearest, each by the tree of a warp.
struct SumPowers {
  const std::int64_t* ks;  // ascending
  std::size_t count;
  double gamma;
  double* sums;

  __device__ __forceinline__ void operator()(double* nearest, std::size_t k, std::size_t place) const {
    if (gamma == 1.0) {
      for (std::size_t j = threadIdx.x; j < k; j += blockDim.x) nearest[j] = sqrt(nearest[j]);
    } else {
      for (std::size_t j = threadIdx.x; j < k; j += blockDim.x) nearest[j] = pow(nearest[j], gamma / 2.0);
    }
    __syncthreads();
    double* const out = sums + place * count;
    for (std::size_t w = threadIdx.x / warp_threads; w < count; w += blockDim.x / warp_threads) {
      const std::int64_t begin = w == 0 ? 0 : ks[w - 1];
      const double sum = warp_sum_of(nearest + begin, static_cast<std::size_t>(ks[w] - begin));
      if (lane_index() == 0) out[w] = sum;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (std::size_t w = 1; w < count; ++w) out[w] += out[w - 1];
  }
};

}  // namespace pythermo::cuda
