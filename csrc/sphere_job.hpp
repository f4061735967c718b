// What a simulation of chains works on, and the order of its events: the same for every kind of kernel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"
#include "portable.hpp"
#include "shuffle.hpp"
#include "sphere.hpp"

namespace pythermo {

// What SphereSettings and SphereArrays say, as pointers; null for what is not asked for.
template <class T>
struct SphereJob {
  const T* table;            // [dim * samples], by coordinate
  std::size_t samples, dim;  // samples = 0: isotropic noise
  T sigma;
  std::size_t batch_size;
  bool epochs;
  std::uint64_t seed;
  int protocol;  // its place in protocols::All
  sphere::Retraction retraction;
  bool in_full_space;
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

  PYTHERMO_INLINE bool measures_system() const {
    return loss != nullptr || full_grad_norm != nullptr || mean_grad_norm != nullptr || snr != nullptr;
  }
  PYTHERMO_INLINE std::uint64_t draws_per_epoch() const {
    return pythermo::draws_per_epoch(samples, batch_size);
  }
};

// Calls measure(row), sample_window(row) and advance(from, to), by at most `most_steps` at once, in the order
// of the steps; stops early and returns false when keep_going() does.
template <class T, class Measure, class SampleWindow, class Advance, class KeepGoing>
bool run_events(const SphereJob<T>& job, std::uint64_t most_steps, const Measure& measure,
                const SampleWindow& sample_window, const Advance& advance, const KeepGoing& keep_going) {
  std::size_t row = 0, sample = 0;
  for (std::uint64_t step = job.first_step;;) {
    const auto window_at = [&] { return job.last_step - (job.window - 1 - sample) * job.stride; };
    if (row < job.measured && step == static_cast<std::uint64_t>(job.measure_at[row])) measure(row++);
    if (sample < job.window && step == window_at()) sample_window(sample++);
    if (step == job.last_step) return true;

    std::uint64_t next = step + most_steps;
    const auto not_beyond = [&next](std::uint64_t event) { next = event < next ? event : next; };
    not_beyond(job.last_step);
    if (row < job.measured) not_beyond(static_cast<std::uint64_t>(job.measure_at[row]));
    if (sample < job.window) not_beyond(window_at());
    advance(step, next);
    step = next;
    if (!keep_going()) return false;
  }
}

}  // namespace pythermo

// The simulator's loops over packs of chains, built for each instruction set.
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
