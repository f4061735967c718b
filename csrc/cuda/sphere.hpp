// SGD of many chains of a small system on the sphere, on a CUDA device.
#pragma once

#include <cstdint>

#include "../keep_going.hpp"
#include "../sphere_arrays.hpp"

namespace pythermo::cuda {

// What a simulation needs beside its settings and arrays.
struct SphereLaunch {
  TensorView workspace;  // [sphere_workspace_size()] float64
  std::uintptr_t stream;
  unsigned threads;  // of a block, at most 256: the same bits for any multiple of 32
  std::uint64_t
      most_work;  // of one launch: gradients of samples that a chain computes; about a microsecond each
};

// Of float64 elements, for chains of numbers of `element_bytes` in blocks of so many threads.
std::size_t sphere_workspace_size(const SphereSettings& settings, std::size_t chains, std::size_t samples,
                                  std::size_t element_bytes, unsigned threads);

// Runs all chains and waits for them, cut into launches of a fraction of a second; between them `keep_going`
// is asked, and if it returns false the simulation stops, with weights and outputs in no useful state. In up
// to four dimensions the bits are those of the CPU, but for numbers that it flushes to zero. Throws
// std::invalid_argument for arguments that do not fit, std::runtime_error for what CUDA refuses.
void simulate_sphere(const SphereSettings& settings, const SphereArrays& arrays, const SphereLaunch& launch,
                     const KeepGoing& keep_going);

}  // namespace pythermo::cuda
