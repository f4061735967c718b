// Elementary functions with the same bits on every machine, of one number or of vectors of numbers.
//
// They are written for any Real that has arithmetic and the primitives of primitives.hpp. For vectors,
// cpu/lanes.hpp is included first.
#pragma once

#include <cstdint>

#include "primitives.hpp"

namespace pythermo {

// A number in [0, 1) from the upper 52 bits of a 64-bit word.
template <class Real, class Word>
PYTHERMO_INLINE Real unit_interval(Word word) {
  return same_bits<Real>((word >> 12) | std::uint64_t{0x3ff0000000000000}) - 1.0;
}

// The natural logarithm of a positive normal number: log x = k log 2 + 2 atanh(s) with x = 2^k m,
// m in [sqrt(1/2), sqrt(2)) and s = (m - 1) / (m + 1), |s| < 0.172; the series is cut below 2^-56.
template <class Real>
PYTHERMO_INLINE Real logarithm(Real x) {
  using Word = typename BitsOf<Real>::type;
  const Word bits = same_bits<Word>(x);
  const Word shifted = bits + (std::uint64_t{0x3ff0000000000000} - 0x3fe6a09e667f3bcd);
  const Word exponent = shifted >> 52;  // k + 1023
  const Real m = same_bits<Real>(bits - (exponent << 52) + (std::uint64_t{1023} << 52));
  const Real k = same_bits<Real>(exponent | std::uint64_t{0x4330000000000000}) - (0x1p52 + 1023.0);
  const Real s = (m - 1.0) / (m + 1.0), z = s * s;
  Real series = z * (1.0 / 21.0) + 1.0 / 19.0;
  series = series * z + 1.0 / 17.0;
  series = series * z + 1.0 / 15.0;
  series = series * z + 1.0 / 13.0;
  series = series * z + 1.0 / 11.0;
  series = series * z + 1.0 / 9.0;
  series = series * z + 1.0 / 7.0;
  series = series * z + 1.0 / 5.0;
  series = series * z + 1.0 / 3.0;
  constexpr double log2_high = 0x1.62e42fefa38p-1, log2_low = 0x1.ef35793c7673p-45;
  return k * log2_high + (2.0 * s + (2.0 * s * z * series + k * log2_low));
}

// Sine and cosine of quarter * pi/2 + rest, |rest| <= pi/4, by their Taylor series to 2^-54.
template <class Real, class Word>
PYTHERMO_INLINE void sine_cosine_of_parts(Word quarter, Real rest, Real& sine, Real& cosine) {
  const Real z = rest * rest;
  Real s = z * (1.0 / 355687428096000.0) - 1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  s = s * z * rest + rest;
  Real c = z * (1.0 / 20922789888000.0) - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  c = c * z - 0.5;
  c = c * z + 1.0;
  const auto odd = (quarter & 1) != 0;
  const Word sine_sign = (quarter & 2) << 62, cosine_sign = ((quarter + 1) & 2) << 62;
  sine = same_bits<Real>(same_bits<Word>(select(odd, c, s)) ^ sine_sign);
  cosine = same_bits<Real>(same_bits<Word>(select(odd, s, c)) ^ cosine_sign);
}

// x to the nearest integer, as a number and as the lower bits of a Word; |x| < 2^51.
template <class Real, class Word>
PYTHERMO_INLINE void nearest_integer(Real x, Real& number, Word& bits) {
  const Real shifted = x + 0x1.8p52;
  bits = same_bits<Word>(shifted);
  number = shifted - 0x1.8p52;
}

// Sine and cosine of 2 pi u, |u| <= 1.
template <class Real>
PYTHERMO_INLINE void sine_cosine_of_turns(Real u, Real& sine, Real& cosine) {
  typename BitsOf<Real>::type quarter;
  Real quarters;
  nearest_integer(4.0 * u, quarters, quarter);
  sine_cosine_of_parts(quarter, (u - 0.25 * quarters) * 0x1.921fb54442d18p2, sine, cosine);
}

// Sine and cosine of an angle in radians, absolute error below 2^-52 + 2^-70 |angle|; |angle| < 2^20.
template <class Real>
PYTHERMO_INLINE void sine_cosine(Real angle, Real& sine, Real& cosine) {
  typename BitsOf<Real>::type quarter;
  Real quarters;
  nearest_integer(angle * 0x1.45f306dc9c883p-1, quarters, quarter);
  constexpr double high = 0x1.921fb544p0, middle = 0x1.0b4611a6p-34, low = 0x1.3198a2e037073p-69;
  const Real rest = ((angle - quarters * high) - quarters * middle) - quarters * low;
  sine_cosine_of_parts(quarter, rest, sine, cosine);
}

// e^x of floats x <= 0, to 1.5 units in the last place; 0 below -87, NaN for NaN: 2^n times a polynomial in
// the rest. Integer is as wide as the elements of Value.
template <class Value, class Integer>
PYTHERMO_INLINE Value exponential_of_negative(Value x) {
  constexpr float magic = 0x1.8p23f;
  const Value shifted = x * 0x1.715476p0f + magic;
  const Value n = shifted - magic;
  const Value r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  Value p = r * 0x1.6850e4p-10f + 0x1.123bccp-7f;
  p = p * r + 0x1.555b98p-5f;
  p = p * r + 0x1.55548ep-3f;
  p = p * r + 0x1.fffff8p-2f;
  p = p * r * r + r + 1.0f;
  const Value scale = same_bits<Value>((same_bits<Integer>(shifted) + 127) << 23), zero{};
  return x < -87.0f ? zero : p * scale;
}

}  // namespace pythermo
