// Threads that wait between kernels, so that a kernel of some microseconds can use them.
#pragma once

#include <cstddef>

namespace pythermo::cpu {

// Calls body(first, last) for consecutive parts of [0, count), on at most `threads` threads, and
// returns when all are done. The body must not throw. A kernel that keeps its partial results by index
// and adds them up afterwards gives the same bits for any number of threads. Calls from several
// threads at once, or from within a body, run on the calling thread alone.
template <class Body>
void parallel_for(std::size_t count, int threads, const Body& body);

namespace detail {
using RangeFunction = void (*)(const void* body, std::size_t first, std::size_t last);
void run_in_parts(std::size_t count, int threads, RangeFunction function, const void* body);
}  // namespace detail

template <class Body>
void parallel_for(std::size_t count, int threads, const Body& body) {
  detail::run_in_parts(
      count, threads,
      [](const void* it, std::size_t first, std::size_t last) {
        (*static_cast<const Body*>(it))(first, last);
      },
      &body);
}

}  // namespace pythermo::cpu
