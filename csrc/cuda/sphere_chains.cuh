// One chain of a simulation on a CUDA device: by one thread, with its vectors in registers, or by one warp,
// with its vectors in memory.
#pragma once

#include "../sphere_job.hpp"
#include "warp.cuh"

namespace pythermo::cuda {

// Beside a job, what lies on the device.
template <class T>
struct SphereMemory {
  const T* table;        // in the order that the chains' kind reads it
  T* vectors;            // [chains * vectors_per_warp * dim], or null where shared memory holds them
  std::uint32_t* order;  // [chains * samples]: permutations of epochs
};

constexpr std::size_t vectors_per_warp = 3;

__device__ __forceinline__ std::size_t thread_of_grid() {
  return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

// Goes through what a lane owns; Next::after(at) is the index after `at`.
template <class Next>
class LaneIterator {
 public:
  __device__ __forceinline__ explicit LaneIterator(std::size_t at) : at_(at) {}
  __device__ __forceinline__ std::size_t operator*() const { return at_; }
  __device__ __forceinline__ bool operator!=(LaneIterator end) const { return at_ < end.at_; }
  __device__ __forceinline__ LaneIterator& operator++() {
    at_ = Next::after(at_);
    return *this;
  }

 private:
  std::size_t at_;
};

struct NextPair {
  __device__ __forceinline__ static std::size_t after(std::size_t at) { return at + warp_threads; }
};

// Both coordinates of a pair, then those of the lane's next pair.
struct NextCoordinate {
  __device__ __forceinline__ static std::size_t after(std::size_t at) {
    return at + (at % 2 == 0 ? 1 : 2 * warp_threads - 1);
  }
};

// The coordinates of a vector over the lanes of a warp, by pairs, so that a lane draws what it owns. Lanes
// read what they own only; all else goes through shuffles.
class WarpCoordinates {
 public:
  using Iterator = LaneIterator<NextCoordinate>;

  class Pairs {
   public:
    using Iterator = LaneIterator<NextPair>;

    __device__ __forceinline__ explicit Pairs(std::size_t count) : count_(count) {}
    __device__ __forceinline__ Iterator begin() const { return Iterator(lane_index()); }
    __device__ __forceinline__ Iterator end() const { return Iterator(count_); }

   private:
    std::size_t count_;
  };

  __device__ __forceinline__ explicit WarpCoordinates(std::size_t dim) : dim_(dim) {}
  __device__ __forceinline__ std::size_t size() const { return dim_; }
  __device__ __forceinline__ Iterator begin() const { return Iterator(2 * lane_index()); }
  __device__ __forceinline__ Iterator end() const { return Iterator(dim_); }

  template <class Term>
  __device__ __forceinline__ auto sum(const Term& term) const {
    decltype(term(std::size_t{0})) own{};
    for (const std::size_t d : *this) own += term(d);
    return warp_sum(own);
  }

  __device__ __forceinline__ WarpCoordinates but_last() const { return WarpCoordinates(dim_ - 1); }
  __device__ __forceinline__ Pairs pairs() const { return Pairs((dim_ + 1) / 2); }
  __device__ __forceinline__ bool owns(std::size_t d) const { return owner(d) == lane_index(); }

  template <class T>
  __device__ __forceinline__ T last(const T* vector) const {
    const T own = owns(dim_ - 1) ? vector[dim_ - 1] : T{0};
    return __shfl_sync(all_lanes, own, static_cast<int>(owner(dim_ - 1)));
  }

  // The coordinates of a sample lie side by side.
  __device__ __forceinline__ std::size_t place(std::size_t sample, std::size_t d, std::size_t) const {
    return sample * dim_ + d;
  }

 private:
  __device__ __forceinline__ static unsigned owner(std::size_t d) {
    return static_cast<unsigned>(d / 2 % warp_threads);
  }

  std::size_t dim_;
};

template <class T, int D>
struct ThreadChain {
  static constexpr unsigned threads = 1;
  using Number = T;
  using Space = sphere::Coordinates<D>;

  Space space;
  std::size_t index;
  std::uint32_t* order;
  std::size_t order_stride;
  T w[D], y[D], direction[D], sample[D];

  __device__ __forceinline__ static std::size_t own_index() { return thread_of_grid(); }

  __device__ __forceinline__ ThreadChain(const SphereJob<T>& job, const SphereMemory<T>& memory)
      : space(D), index(own_index()), order(memory.order + index), order_stride(job.chains) {
    for (const std::size_t d : space) w[d] = job.weights[index * D + d];
  }

  template <class System>
  __device__ __forceinline__ const T* look_up(const System& system, std::uint64_t index) {
    for (const std::size_t d : space) sample[d] = system.element(index, d);
    return sample;
  }

  __device__ __forceinline__ bool leads() const { return true; }
  __device__ __forceinline__ std::uint32_t from_leader(std::uint32_t value) const { return value; }
};

template <class T>
struct WarpChain {
  static constexpr unsigned threads = warp_threads;
  using Number = T;
  using Space = WarpCoordinates;

  static constexpr std::size_t order_stride = 1;

  Space space;
  std::size_t index;
  std::uint32_t* order;
  T *w, *y, *direction;

  __device__ __forceinline__ static std::size_t own_index() { return thread_of_grid() / warp_threads; }

  __device__ __forceinline__ WarpChain(const SphereJob<T>& job, const SphereMemory<T>& memory)
      : space(job.dim), index(own_index()), order(memory.order + index * job.samples) {
    const bool shared = memory.vectors == nullptr;
    w = shared ? shared_memory<T>() : memory.vectors;
    w += (shared ? threadIdx.x / warp_threads : index) * vectors_per_warp * job.dim;
    y = w + job.dim;
    direction = y + job.dim;
    for (const std::size_t d : space) w[d] = job.weights[index * job.dim + d];
  }

  template <class System>
  __device__ __forceinline__ const T* look_up(const System& system, std::uint64_t index) const {
    return system.table + system.space.place(index, 0, system.samples);
  }

  __device__ __forceinline__ bool leads() const { return lane_index() == 0; }
  __device__ __forceinline__ std::uint32_t from_leader(std::uint32_t value) const {
    return __shfl_sync(all_lanes, value, 0);
  }
};

}  // namespace pythermo::cuda
