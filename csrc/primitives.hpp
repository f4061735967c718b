// The operations beside arithmetic that elementary.hpp and random.hpp need, for one number; cpu/lanes.hpp has
// them for vectors of numbers.
#pragma once

#include <cmath>
#include <cstdint>

#include "portable.hpp"

namespace pythermo {

template <class To, class From>
PYTHERMO_INLINE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

PYTHERMO_INLINE double square_root(double x) { return sqrt(x); }
PYTHERMO_INLINE float square_root(float x) { return sqrtf(x); }

PYTHERMO_INLINE std::uint64_t multiply_low_halves(std::uint64_t a, std::uint64_t b) {
  return (a & 0xffffffffu) * b;
}

template <class Value>
PYTHERMO_INLINE Value select(bool condition, Value yes, Value no) {
  return condition ? yes : no;
}

// The unsigned integers that are as wide as the elements of Real.
template <class Real>
struct BitsOf;
template <>
struct BitsOf<double> {
  using type = std::uint64_t;
};

// Between the precision of the random draws and that of a chain.
PYTHERMO_INLINE double to_double(double x) { return x; }
PYTHERMO_INLINE double to_double(float x) { return x; }
PYTHERMO_INLINE void from_double(double x, double& y) { y = x; }
PYTHERMO_INLINE void from_double(double x, float& y) { y = static_cast<float>(x); }

}  // namespace pythermo
