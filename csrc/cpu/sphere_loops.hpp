// The simulator's loops over packs of chains, built for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../sphere_job.hpp"
#include "instruction_set.hpp"

namespace pythermo::cpu {

// Asks whether to go on.
struct Question {
  bool (*ask)(void*);
  void* context;
};

// Memory that a thread needs beside the stack, in bytes; aligned to 64.
// clang-format off
PYTHERMO_FOR_EACH_ISA(
  template <class T>
  std::size_t sphere_scratch_bytes(const SphereJob<T>& job);

  // Runs the chains from `first` to before `last`; false if it was told not to go on.
  template <class T>
  bool simulate_chains(const SphereJob<T>& job, std::size_t first, std::size_t last, std::byte* scratch,
                       const Question& go_on);
)
// clang-format on

}  // namespace pythermo::cpu
