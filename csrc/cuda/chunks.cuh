// A flat array in chunks, each of one warp: sums have one part per chunk, so that their bits do not depend on
// the grid.
#pragma once

#include <algorithm>
#include <cstddef>

#include "packs.cuh"
#include "warp.cuh"

namespace pythermo::cuda {

template <class T>
class Chunks {
 public:
  Chunks() = default;

  // At most so many chunks of `size` elements, of 4 packs a lane at least.
  Chunks(std::size_t size, std::size_t most)
      : packs_per_lane_(std::max<std::size_t>(4, divide_up(size, round * most))),
        count_(divide_up(size, round * packs_per_lane_)) {}

  __host__ __device__ std::size_t count() const { return count_; }
  __host__ __device__ std::size_t packs_per_lane() const { return packs_per_lane_; }

  // Blocks that give a warp to each chunk.
  std::size_t blocks(unsigned threads) const { return divide_up(count_, threads / warp_threads); }

  // Calls visit(chunk, first) for the chunks of this thread's warp.
  template <class Visit>
  __device__ __forceinline__ void each(const Visit& visit) const {
    const std::size_t warps = std::size_t{gridDim.x} * (blockDim.x / warp_threads);
    const std::size_t own = (std::size_t{blockIdx.x} * blockDim.x + threadIdx.x) / warp_threads;
    for (std::size_t chunk = own; chunk < count_; chunk += warps) visit(chunk, chunk == own);
  }

  // Where the j-th pack of this thread in a chunk begins.
  __device__ __forceinline__ std::size_t pack_at(std::size_t chunk, std::size_t j) const {
    return ((chunk * packs_per_lane_ + j) * warp_threads + lane_index()) * Pack<T>::width;
  }

 private:
  static constexpr std::size_t round = warp_threads * Pack<T>::width;  // elements of a pack for each lane

  static std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

  std::size_t packs_per_lane_ = 0, count_ = 0;
};

}  // namespace pythermo::cuda
