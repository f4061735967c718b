// Asynchronous copies, by emulation.hpp.
#pragma once

#include <cstddef>

#include "emulation.hpp"

inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t bytes, std::size_t zeros = 0) {
  if (bytes != 4 && bytes != 8 && bytes != 16)
    emulation::fail("an asynchronous copy of another size than 4, 8 or 16");
  const auto a = reinterpret_cast<std::uintptr_t>(to), b = reinterpret_cast<std::uintptr_t>(from);
  if (a % bytes != 0 || b % bytes != 0)
    emulation::fail("an asynchronous copy that is not aligned to its size");
  if (zeros != 0 && zeros != bytes) emulation::fail("an asynchronous copy of zeros in part");
  static constexpr std::byte nothing[16] = {};
  emulation::copy_later(to, zeros != 0 ? nothing : from, bytes);
}
inline void __pipeline_commit() { emulation::close_copies(); }
inline void __pipeline_wait_prior(unsigned but_last) { emulation::wait_for_copies(but_last); }
