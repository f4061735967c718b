// Weights and gradients of a step as they come to a block: pack by pack from wherever their tensors lie,
// through a ring in shared memory, and back the other way round.
#pragma once

#include <cstddef>

#include "../segments.hpp"
#include "bundles.cuh"
#include "packs.cuh"
#include "warp.cuh"

namespace pythermo::cuda {

// A block has a multiprocessor to itself: what shared memory holds of weights and gradient, 30 MB on the
// large devices, is read once.
constexpr unsigned most_threads = 512;
constexpr unsigned strands = most_threads / warp_threads;

// Items that arrive in shared memory while others are used.
constexpr unsigned ring = 3;

template <class T>
using StepBundles = Bundles<Pack<T>::width, strands>;

// An item is a pack of weights and one of the gradient for each thread.
template <class T>
constexpr std::size_t item_bytes = 2 * most_threads * sizeof(Pack<T>);

// So many segments come with the launch, in its arguments; more are written to the workspace first.
constexpr std::size_t few_segments = 32;

// Where weights and gradients come from.
template <class T>
struct ItemSource {
  Segment<T> few[few_segments];
  const Segment<T>* many;  // null where there are few
  std::size_t segment_count;
  std::size_t size;
  StepBundles<T> bundles;
  unsigned slots;  // for items in shared memory, at least `ring`
};

// Weights and gradients by their places in the whole vector, a pack at a time.
template <class T>
class Places {
 public:
  __device__ __forceinline__ explicit Places(const ItemSource<T>& source)
      : segments_(source.many != nullptr ? source.many : source.few),
        count_(source.segment_count),
        size_(source.size),
        last_(segments_[0]) {}

  // Begins to copy the packs from a place on into shared memory, zeros beyond the end.
  __device__ __forceinline__ void copy(std::size_t at, T* weights, T* grad) {
    constexpr std::size_t width = Pack<T>::width;
    if (at < size_) {
      const Segment<T>& one = segment_at(at);
      const T* const from = one.weights + (at - one.begin);
      const T* const grad_from = one.grad == nullptr ? nullptr : one.grad + (at - one.begin);
      if (at + width <= one.end && is_aligned(from) && is_aligned(grad_from)) {
        __pipeline_memcpy_async(weights, from, sizeof(Pack<T>));
        if (grad_from != nullptr) {
          __pipeline_memcpy_async(grad, grad_from, sizeof(Pack<T>));
        } else {
          *reinterpret_cast<Pack<T>*>(grad) = {};
        }
        return;
      }
    }
#pragma unroll 1
    for (std::size_t i = 0; i < width; ++i) copy_one(at + i, weights + i, grad + i);
  }

  __device__ __forceinline__ void store(std::size_t at, const Pack<T>& pack) {
    if (at >= size_) return;
    const Segment<T>& one = segment_at(at);
    T* const to = one.weights + (at - one.begin);
    if (at + Pack<T>::width <= one.end && is_aligned(to)) {
      *reinterpret_cast<Pack<T>*>(to) = pack;
      return;
    }
#pragma unroll
    for (int i = 0; i < Pack<T>::width; ++i) {
      if (at + i >= size_) return;
      const Segment<T>& own = segment_at(at + i);
      own.weights[at + i - own.begin] = pack.value[i];
    }
  }

 private:
  __device__ __forceinline__ void copy_one(std::size_t at, T* weight, T* grad) {
    *weight = *grad = T{0};
    if (at >= size_) return;
    const Segment<T>& one = segment_at(at);
    __pipeline_memcpy_async(weight, one.weights + (at - one.begin), sizeof(T));
    if (one.grad != nullptr) __pipeline_memcpy_async(grad, one.grad + (at - one.begin), sizeof(T));
  }

  // Mostly that of the place before, for places that follow each other.
  __device__ __forceinline__ const Segment<T>& segment_at(std::size_t at) {
    if (at < last_.begin || at >= last_.end) last_ = segments_[segment_with(at, segments_, count_)];
    return last_;
  }

  const Segment<T>* segments_;
  std::size_t count_, size_;
  Segment<T> last_;  // in registers, which a pack's address waits for the least
};

// The items of a block, one bundle after the other: the first of them come into the ring's slots, those from
// `ring` to `slots` into slots where they stay, the others follow each other through the ring. At the end the
// ring has the last ones; the way back begins with these.
template <class T>
class Items {
 public:
  __device__ __forceinline__ Items(const ItemSource<T>& source, unsigned strand)
      : source_(source),
        places_(source),
        strand_(strand),
        packs_(static_cast<unsigned>(source.bundles.packs_per_lane())),
        bundles_(bundles_of_block(source)),
        count_(packs_ * bundles_),
        in_ring_(count_ < source.slots ? (count_ < ring ? count_ : ring) : ring + count_ - source.slots) {}

  __device__ __forceinline__ static unsigned bundles_of_block(const ItemSource<T>& source) {
    return static_cast<unsigned>((source.bundles.count() - blockIdx.x + gridDim.x - 1) / gridDim.x);
  }

  __device__ __forceinline__ unsigned packs() const { return packs_; }

  // Calls visit(item, weights, gradient) from the first to the last.
  template <class Visit>
  __device__ __forceinline__ void read(const Visit& visit) {
#pragma unroll 1
    for (unsigned e = 0; e < ring; ++e) begin(e, e);
#pragma unroll 1
    for (unsigned t = ring; t < source_.slots; ++t) copy(t, t);
    __pipeline_commit();
#pragma unroll 1
    for (unsigned e = 0; e < ring; ++e) {
      wait_for_packs<ring>();
      use_and_follow(e, visit);
    }
    wait_for_packs<ring>();
#pragma unroll 1
    for (unsigned t = ring; t < source_.slots && t < count_; ++t) use(t, t, visit);
#pragma unroll 1
    for (unsigned e = ring; e < in_ring_; ++e) {
      wait_for_packs<ring - 1>();
      use_and_follow(e, visit);
    }
  }

  // After `read`: calls visit(item, weights, gradient) for each again, the other way round.
  template <class Visit>
  __device__ __forceinline__ void read_again(const Visit& visit) {
    unsigned e = in_ring_;
#pragma unroll 1
    for (unsigned r = 0; r < ring; ++r) {
      if (e > 0) use_again(--e, visit);
      __pipeline_commit();
    }
#pragma unroll 1
    for (unsigned t = ring; t < source_.slots && t < count_; ++t) use(t, t, visit);
#pragma unroll 1
    while (e > 0) {
      wait_for_packs<ring - 1>();
      use_again(--e, visit);
      __pipeline_commit();
    }
  }

  __device__ __forceinline__ std::size_t place(unsigned t) const {
    const unsigned bundle = bundles_ == 1 ? 0 : t / packs_;
    return source_.bundles.pack_at(blockIdx.x + std::size_t{bundle} * gridDim.x, t - bundle * packs_,
                                   strand_);
  }

 private:
  // The item that is the e-th in the ring.
  __device__ __forceinline__ unsigned item(unsigned e) const {
    return e < ring ? e : e - ring + source_.slots;
  }

  __device__ __forceinline__ T* slot(unsigned which, unsigned array) const {
    return shared_memory<T>() +
           ((which * 2 + array) * most_threads + strand_ * warp_threads + lane_index()) * Pack<T>::width;
  }

  __device__ __forceinline__ void copy(unsigned t, unsigned to) {
    if (t < count_) places_.copy(place(t), slot(to, 0), slot(to, 1));
  }
  __device__ __forceinline__ void begin(unsigned t, unsigned to) {
    copy(t, to);
    __pipeline_commit();
  }

  template <class Visit>
  __device__ __forceinline__ void use(unsigned t, unsigned from, const Visit& visit) const {
    visit(t, *reinterpret_cast<const Pack<T>*>(slot(from, 0)),
          *reinterpret_cast<const Pack<T>*>(slot(from, 1)));
  }
  template <class Visit>
  __device__ __forceinline__ void use_and_follow(unsigned e, const Visit& visit) {
    if (e < in_ring_) use(item(e), e % ring, visit);
    begin(item(e + ring), e % ring);
  }
  template <class Visit>
  __device__ __forceinline__ void use_again(unsigned e, const Visit& visit) {
    use(item(e), e % ring, visit);
    if (e >= ring) copy(item(e - ring), e % ring);
  }

  const ItemSource<T>& source_;
  Places<T> places_;
  unsigned strand_, packs_, bundles_, count_, in_ring_;
};

}  // namespace pythermo::cuda
