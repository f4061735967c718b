// Minibatches drawn with replacement, as functions of (seed, stream, step, index, member): Philox 4x64-10
// (Salmon et al. 2011) and Lemire's unbiased integers (2019), in the order in which numpy's Generator draws
// them, so that what it drew before can be drawn again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor_view.hpp"

namespace pythermo {

// The 32-bit words of one draw, one after the other.
class PhiloxWords {
 public:
  PhiloxWords(std::uint64_t seed, std::uint64_t stream, std::uint64_t step, std::uint64_t index,
              std::uint64_t member)
      : key_{seed, stream}, counter_{0, member, index, step} {}

  std::uint32_t next() {
    if (used_ == word_count) refill();
    const std::uint64_t pair = block_[used_ / 2];
    return static_cast<std::uint32_t>(used_++ % 2 == 0 ? pair : pair >> 32);
  }

 private:
  __extension__ using Product = unsigned __int128;
  static constexpr int word_count = 8;

  void refill() {
    ++counter_[0];  // a minibatch is of less than 2^64 words
    for (int i = 0; i < 4; ++i) block_[i] = counter_[i];
    std::uint64_t k0 = key_[0], k1 = key_[1];
    for (int round = 0; round < 10; ++round) {
      const Product p0 = Product{0xD2E7470EE14C6C93u} * block_[0];
      const Product p1 = Product{0xCA5A826395121157u} * block_[2];
      const std::uint64_t mixed[] = {high(p1) ^ block_[1] ^ k0, static_cast<std::uint64_t>(p1),
                                     high(p0) ^ block_[3] ^ k1, static_cast<std::uint64_t>(p0)};
      for (int i = 0; i < 4; ++i) block_[i] = mixed[i];
      k0 += 0x9E3779B97F4A7C15u;
      k1 += 0xBB67AE8584CAA73Bu;
    }
    used_ = 0;
  }

  static std::uint64_t high(Product product) { return static_cast<std::uint64_t>(product >> 64); }

  std::uint64_t key_[2], counter_[4], block_[4] = {};
  int used_ = word_count;
};

// An integer below `count`, from 1 to 2^32 - 1, each with the same probability.
inline std::uint32_t integer_below(PhiloxWords& words, std::uint32_t count) {
  const std::uint32_t refused = (0u - count) % count;  // so many of the 2^32 words are too many
  std::uint64_t product = std::uint64_t{words.next()} * count;
  while (static_cast<std::uint32_t>(product) < refused) product = std::uint64_t{words.next()} * count;
  return static_cast<std::uint32_t>(product >> 32);
}

}  // namespace pythermo

// The whole kernel on the CPU.
namespace pythermo::cpu {

// Writes the minibatches [draws, size] int64, indices below `population`, of draws [draws, 5] int64: seed,
// stream, step, index, member.
void minibatches(const TensorView& draws, std::size_t population, const TensorView& indices);

}  // namespace pythermo::cpu
