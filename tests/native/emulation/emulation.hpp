// Runs CUDA kernels on the CPU, for tests: each thread of a block is a fiber, which runs from one barrier to
// the next. Between barriers the threads of a block take turns in an order that `set_schedule` chooses, so
// that a result that depends on a missing barrier changes.
//
// Blocks run one after the other, in that order too; those of a cooperative launch all at once. Shared memory
// is allocated to its exact size and filled with NaN, for sanitizers and for reads of what was never written.
// A warp operation takes effect when all lanes of its mask have arrived; what CUDA leaves undefined (a mask
// that lacks the calling lane, lanes that never come) ends the launch with an error that says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulation {

constexpr unsigned warp_size = 32;

// What a thread can see of itself.
struct Identity {
  dim3 thread, block, block_size, grid;
};
const Identity& identity();

// Orders in which threads and blocks take turns: first to last, last to first, and any other number for an
// order that is drawn anew at each turn.
enum Schedule : std::uint64_t { forward = 0, backward = 1 };
void set_schedule(std::uint64_t schedule);
// How many times as fast the device is in single precision as in double: 64 unless set.
void set_single_to_double_ratio(int ratio);
int single_to_double_ratio();
// Of a block: 100 KB unless set, as a small device has; 227 KB on an H100.
void set_most_shared_bytes(int bytes);
int most_shared_bytes();
std::uint64_t barriers_passed();  // by threads, since the program began: tells that barriers are there

// Runs a kernel for all threads of a grid; returns what went wrong, or an empty string.
std::string run(const std::function<void()>& kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                bool cooperative);

// --- what a thread calls --------------------------------------------------------------------------------
std::byte* shared_memory();
void synchronize_block();
void synchronize_grid();
[[noreturn]] void fail(const std::string& what);  // ends the launch

// Exchanges words among the lanes of a mask; `source` is the lane whose word the caller gets.
std::uint64_t exchange(unsigned mask, std::uint64_t word, unsigned source, const char* operation);
// The lanes of the mask, as bits, whose predicate is true.
unsigned ballot(unsigned mask, bool predicate, const char* operation);
unsigned lane();

// The warp's product of [8, 4] by [4, 8], added to the caller's two sums: mma.sync.m8n8k4.row.col.f64.
void add_product_8x8x4(double a, double b, double& first, double& second);

// A copy that may happen at any time until it is waited for; here it happens then.
void copy_later(void* to, const void* from, std::size_t bytes);
void close_copies();
void wait_for_copies(unsigned but_last);

template <class T>
T exchange_value(unsigned mask, T value, unsigned source, const char* operation) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t word = 0;
  __builtin_memcpy(&word, &value, sizeof value);
  word = exchange(mask, word, source, operation);
  __builtin_memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace emulation
