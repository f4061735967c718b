// Random numbers as functions of (seed, stream, replica, position): Philox 4x32-10 (Salmon et al. 2011), and
// from it indices and normal deviates. The same bits on every machine: only +, -, *, / and sqrt are used.
//
// Each function works on one number (Word = std::uint64_t, Real = double) or on vectors of them
// (cpu/lanes.hpp).
#pragma once

#include <cstdint>

#include "elementary.hpp"
#include "portable.hpp"

namespace pythermo {

enum class Stream : std::uint32_t { batches = 0, start = 1, sketch_shifts = 2, sketch_signs = 3 };

// Four 32-bit words, each in the lower half of a Word.
template <class Word>
struct RandomWords {
  Word word[4];
};

template <class Word>
PYTHERMO_INLINE RandomWords<Word> philox(Word c0, Word c1, Word c2, Word c3, std::uint64_t key) {
  constexpr std::uint64_t low = 0xffffffffu, m0 = 0xD2511F53u, m1 = 0xCD9E8D57u;
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const Word p0 = multiply_low_halves(c0, m0), p1 = multiply_low_halves(c2, m1);
    c0 = (p1 >> 32) ^ c1 ^ std::uint64_t{k0};
    c1 = p1 & low;
    c2 = (p0 >> 32) ^ c3 ^ std::uint64_t{k1};
    c3 = p0 & low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The words at one position of a replica's stream.
template <class Word>
PYTHERMO_INLINE RandomWords<Word> random_words(std::uint64_t seed, Stream stream, Word replica,
                                               std::uint64_t position) {
  const Word zero = replica ^ replica;
  return philox<Word>(zero + (position & 0xffffffffu), zero + (position >> 32), replica,
                      zero + static_cast<std::uint64_t>(stream), seed);
}

// An integer below `count` (at most 2^31) from a 32-bit word; each has the probability 1 / count to 2^-32.
template <class Word>
PYTHERMO_INLINE Word index_below(Word word, std::uint64_t count) {
  return multiply_low_halves(word, count) >> 32;
}

// Two independent normal deviates from 4 words by Box and Muller's transform, to 8.5 standard deviations.
template <class Real, class Word>
PYTHERMO_INLINE void normal_pair(const RandomWords<Word>& random, Real& first, Real& second) {
  const Real radius_draw = unit_interval<Real>((random.word[0] << 32) | random.word[1]);
  const Real angle_draw = unit_interval<Real>((random.word[2] << 32) | random.word[3]);
  const Real radius = square_root(-2.0 * logarithm(1.0 - radius_draw));
  Real sine, cosine;
  sine_cosine_of_turns(angle_draw, sine, cosine);
  first = radius * cosine;
  second = radius * sine;
}

}  // namespace pythermo
