// The simulator's loops over packs of chains, built for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../sphere.hpp"
#include "instruction_set.hpp"

namespace pythermo::cpu {

// What SphereSettings and SphereArrays say, as pointers; null for what is not asked for.
template <class T>
struct SphereJob {
  const T* table;
  std::size_t samples, dim;  // samples = 0: isotropic noise
  T sigma;
  std::size_t batch_size;
  bool epochs;
  std::uint64_t seed;
  sphere::Protocol protocol;
  T weight_decay;
  std::uint64_t first_step, last_step;
  const std::int64_t* measure_at;
  std::size_t measured, window, stride;

  std::size_t chains;
  T* weights;
  const T* lr;
  const std::int64_t* replica;
  double *loss, *full_grad_norm, *mean_grad_norm, *snr;
  T* weights_at;
  double *window_mean, *window_variance, *window_loss;
  T* trajectory;

  bool (*keep_going)(void*);
  void* keep_going_context;
};

// Memory that a thread needs beside the stack, in bytes; aligned to 64.
// clang-format off
PYTHERMO_FOR_EACH_ISA(
  template <class T>
  std::size_t sphere_scratch_bytes(const SphereJob<T>& job);

  // Runs the chains from `first` to before `last`; false if it was told not to go on.
  template <class T>
  bool simulate_chains(const SphereJob<T>& job, std::size_t first, std::size_t last, std::byte* scratch);
)
// clang-format on

}  // namespace pythermo::cpu
