// A loop in consecutive parts on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace pythermo::cpu {

// Calls body(first, last) for consecutive parts of [0, count), on at most `threads` threads. The body must
// not throw. A kernel that keeps its partial results by index and adds them up afterwards gives the same
// bits for any number of threads.
//
// OpenMP, because torch uses it: both share one runtime (libgomp) and its threads. Threads of our own would
// compete with those of torch, which keep spinning for some milliseconds after a backward pass.
template <class Body>
void parallel_for(std::size_t count, int threads, const Body& body) {
  const std::size_t parts = std::min<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)), count);
#pragma omp parallel for num_threads(parts) schedule(static, 1) if (parts > 1)
  for (std::size_t part = 0; part < parts; ++part) {
    body(count * part / parts, count * (part + 1) / parts);
  }
}

// How many threads `parallel_tasks` uses at most.
inline std::size_t workers_for(std::size_t tasks, int threads) {
  return std::min<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)), tasks);
}

// Calls body(task, worker) for each task of [0, count), in no fixed order, on workers_for(count, threads)
// threads: for tasks of unequal length. `worker` tells the threads apart. The body must not throw; once it
// returns false, tasks not yet begun are left out.
template <class Body>
void parallel_tasks(std::size_t count, int threads, const Body& body) {
  std::atomic<std::size_t> next = 0;
  parallel_for(workers_for(count, threads), threads, [&](std::size_t worker, std::size_t) {
    for (std::size_t task = next++; task < count; task = next++) {
      if (!body(task, worker)) next = count;
    }
  });
}

}  // namespace pythermo::cpu
