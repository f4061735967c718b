// The samples that a chain draws, as its peers on the CPU do (cpu/sphere.isa.cpp).
#pragma once

#include <cstdint>

#include "../shuffle.hpp"
#include "sphere_chains.cuh"

namespace pythermo::cuda {

// With replacement: the words of one position serve four draws.
class IidDraws {
 public:
  template <class T, class Chain>
  __device__ __forceinline__ IidDraws(const SphereJob<T>& job, const Chain& chain, std::uint64_t)
      : seed_(job.seed),
        samples_(job.samples),
        replica_(static_cast<std::uint64_t>(job.replica[chain.index])) {}

  template <class Chain>
  __device__ __forceinline__ std::uint64_t index(const Chain&, std::uint64_t draw) {
    return index_below<std::uint64_t>(word(draw), samples_);
  }

  __device__ __forceinline__ std::uint64_t word(std::uint64_t draw) {
    if (draw_position(draw) != position_) {
      position_ = draw_position(draw);
      const auto found = random_words(seed_, Stream::batches, replica_, position_);
#pragma unroll
      for (int i = 0; i < 4; ++i) word_[i] = static_cast<std::uint32_t>(found.word[i]);
    }
    // An index into registers.
    const std::uint32_t lower = (draw & 1) != 0 ? word_[1] : word_[0];
    const std::uint32_t upper = (draw & 1) != 0 ? word_[3] : word_[2];
    return (draw & 2) != 0 ? upper : lower;
  }

  __device__ __forceinline__ std::uint64_t samples() const { return samples_; }

 private:
  std::uint64_t seed_, samples_, replica_, position_ = ~std::uint64_t{0};
  std::uint32_t word_[4] = {};
};

// The permutation of a chain, beside those of others.
struct ChainOrder {
  std::uint32_t* order;
  std::size_t stride;

  PYTHERMO_INLINE std::uint32_t get(std::uint64_t i) const { return order[i * stride]; }
  PYTHERMO_INLINE void set(std::uint64_t i, std::uint64_t sample) const {
    order[i * stride] = static_cast<std::uint32_t>(sample);
  }
};

// Of a random permutation per epoch; it stays in memory from launch to launch, where the chain's leader alone
// reads and writes it.
class EpochDraws {
 public:
  template <class T, class Chain>
  __device__ __forceinline__ EpochDraws(const SphereJob<T>& job, const Chain& chain, std::uint64_t from)
      : random_(job, chain, from), per_epoch_(job.draws_per_epoch()) {
    const std::uint64_t draw = from * job.batch_size, place = draw % per_epoch_;
    if (from == job.first_step) {
      for (std::uint64_t past = draw - place; past < draw; ++past) index(chain, past);
    }
    place_ = place;
  }

  template <class Chain>
  __device__ __forceinline__ std::uint64_t index(const Chain& chain, std::uint64_t draw) {
    if (place_ == per_epoch_) place_ = 0;
    const std::uint64_t from = shuffled_from(random_.word(draw), place_, random_.samples());
    std::uint32_t chosen = 0;
    if (chain.leads()) {
      const ChainOrder order{chain.order, chain.order_stride};
      if (place_ == 0) begin_shuffle(order, random_.samples());
      chosen = swap_to(order, place_, from);
    }
    ++place_;
    return chain.from_leader(chosen);
  }

 private:
  IidDraws random_;
  std::uint64_t per_epoch_, place_ = 0;
};

}  // namespace pythermo::cuda
