// Memory of the vectors of members, which is not filled.
#pragma once

#include <cstddef>
#include <memory>

#include "../lanes_convolution.hpp"

namespace pythermo::cpu {

class AlignedVectors {
 public:
  explicit AlignedVectors(std::size_t vectors)
      : size_(vectors * lanes_of_members() * sizeof(float)),
        memory_(std::make_unique_for_overwrite<std::byte[]>(size_ + alignment)) {}

  float* data() const {
    void* begin = memory_.get();
    std::size_t space = size_ + alignment;
    return static_cast<float*>(std::align(alignment, size_, begin, space));
  }

 private:
  static constexpr std::size_t alignment = 64;  // of cache lines: a vector in two takes twice as long to load

  std::size_t size_;
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace pythermo::cpu
