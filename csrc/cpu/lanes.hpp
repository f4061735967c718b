// The one vocabulary of vectors: their types, how they are loaded, stored, converted and added up, and the
// primitives of primitives.hpp for them. The compiler's vector extension, whose width is that of the
// instruction set, keeps the state of a chain in registers from step to step; loops over arrays would bring
// it to memory and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "../primitives.hpp"

namespace pythermo {
namespace cpu {

#if defined(__AVX512F__)
constexpr std::size_t vector_bytes = 64;
#elif defined(__AVX__)
constexpr std::size_t vector_bytes = 32;
#else
constexpr std::size_t vector_bytes = 16;
#endif

// `size` numbers side by side.
template <class T, std::size_t size>
using Vector __attribute__((vector_size(size * sizeof(T)))) = T;

// How many fill a register.
template <class T>
constexpr std::size_t register_lanes = vector_bytes / sizeof(T);

// As many lanes for float as for double, where an index of 64 bits goes with each.
constexpr std::size_t lane_count = register_lanes<double>;

template <class T>
using Lanes = std::type_identity_t<Vector<T, lane_count>>;  // T is not deduced from it
using Doubles = Lanes<double>;
using Floats = Lanes<float>;
using Words = Lanes<std::uint64_t>;
using Mask = Lanes<std::int64_t>;  // -1 where true
using HalfMask = Lanes<std::int32_t>;

}  // namespace cpu

template <>
struct BitsOf<cpu::Doubles> {
  using type = cpu::Words;
};

PYTHERMO_INLINE cpu::Doubles square_root(cpu::Doubles x) {
  for (std::size_t l = 0; l < cpu::lane_count; ++l) x[l] = __builtin_sqrt(x[l]);
  return x;
}
PYTHERMO_INLINE cpu::Floats square_root(cpu::Floats x) {
  for (std::size_t l = 0; l < cpu::lane_count; ++l) x[l] = __builtin_sqrtf(x[l]);
  return x;
}

// One instruction on x86, which compilers do not find: they multiply all 64 bits.
PYTHERMO_INLINE cpu::Words multiply_low_halves(cpu::Words a, std::uint64_t b) {
#if defined(__AVX512F__)
  // The unmasked form makes GCC 12 warn of a value of its own that is not initialized.
  return (cpu::Words)_mm512_maskz_mul_epu32(0xff, (__m512i)a, _mm512_set1_epi64(static_cast<long long>(b)));
#elif defined(__AVX2__)
  return (cpu::Words)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(static_cast<long long>(b)));
#elif defined(__SSE2__)
  return (cpu::Words)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(static_cast<long long>(b)));
#else
  return (a & std::uint64_t{0xffffffff}) * b;
#endif
}

PYTHERMO_INLINE cpu::Doubles select(cpu::Mask mask, cpu::Doubles yes, cpu::Doubles no) {
  return mask ? yes : no;
}
PYTHERMO_INLINE cpu::Floats select(cpu::HalfMask mask, cpu::Floats yes, cpu::Floats no) {
  return mask ? yes : no;
}
PYTHERMO_INLINE cpu::Floats select(cpu::Mask mask, cpu::Floats yes, cpu::Floats no) {
  return select(__builtin_convertvector(mask, cpu::HalfMask), yes, no);
}

PYTHERMO_INLINE cpu::Doubles to_double(cpu::Doubles x) { return x; }
PYTHERMO_INLINE cpu::Doubles to_double(cpu::Floats x) {
#if defined(__AVX512F__)
  return (cpu::Doubles)_mm512_maskz_cvtps_pd(0xff, (__m256)x);  // GCC 12 makes four instructions of it
#else
  return __builtin_convertvector(x, cpu::Doubles);
#endif
}
PYTHERMO_INLINE void from_double(cpu::Doubles x, cpu::Doubles& y) { y = x; }
PYTHERMO_INLINE void from_double(cpu::Doubles x, cpu::Floats& y) {
  y = __builtin_convertvector(x, cpu::Floats);
}

namespace cpu {

template <std::size_t size, class T>
PYTHERMO_INLINE Vector<T, size> load(const T* from) {
  Vector<T, size> vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <std::size_t size, class T>
PYTHERMO_INLINE Vector<double, size> load_double(const T* from) {
  if constexpr (size == lane_count) {
    return to_double(load<size>(from));
  } else {
    return __builtin_convertvector((load<size>(from)), Vector<double, size>);
  }
}

template <class Values, class T>
PYTHERMO_INLINE void store(Values values, T* to) {
  __builtin_memcpy(to, &values, sizeof values);
}

// What members of an ensemble have in a register: a float of each.
using Members = Vector<float, register_lanes<float>>;

PYTHERMO_INLINE Members load_members(const float* from) { return load<register_lanes<float>>(from); }

// Keeps the compiler from loading it again for each use.
PYTHERMO_INLINE Members in_register(Members values) {
#if defined(__AVX512F__)
  asm("" : "+v"(values));
#elif defined(__SSE2__)
  asm("" : "+x"(values));
#endif
  return values;
}

// By halves: the same order for every number of lanes in a register.
template <std::size_t size>
PYTHERMO_INLINE double sum_of_lanes(const double (&values)[size]) {
  double sums[size];
  for (std::size_t l = 0; l < size; ++l) sums[l] = values[l];
  for (std::size_t half = size / 2; half > 0; half /= 2) {
    for (std::size_t l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}
PYTHERMO_INLINE double sum_of_lanes(Doubles values) {
  double each[lane_count];
  store(values, each);
  return sum_of_lanes(each);
}

}  // namespace cpu

}  // namespace pythermo
