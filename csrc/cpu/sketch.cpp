#include "../sketch.hpp"

#include <algorithm>
#include <stdexcept>

namespace pythermo::cpu {
namespace {

// Random signs, one after the other: 128 from a position of the generator.
class Signs {
 public:
  explicit Signs(std::uint64_t seed) : seed_(seed) {}

  // Adds `count` weights with the next signs.
  template <class T>
  void add(const T* weights, std::size_t count, double* to) {
    for (std::size_t i = 0; i < count; ++i) {
      if (place_ % 128 == 0) words_ = sketch_signs(seed_, place_);
      to[i] += with_sign(weights[i], words_, place_);
      ++place_;
    }
  }

 private:
  std::uint64_t seed_, place_ = 0;
  RandomWords<std::uint64_t> words_{};
};

template <class T>
void add_rows(VectorView<T> weights, VectorView<double> out, std::uint64_t seed) {
  std::fill_n(out.data, out.size, 0.0);
  Signs signs(seed);
  for (std::size_t start = 0; start < weights.size; start += out.size) {
    const std::size_t shift = sketch_shift(seed, start / out.size, out.size);
    const std::size_t count = std::min(out.size, weights.size - start);
    const std::size_t before = std::min(count, out.size - shift);
    signs.add(weights.data + start, before, out.data + shift);
    signs.add(weights.data + start + before, count - before, out.data);
  }
}

}  // namespace

void sketch(const TensorView& weights, const TensorView& out, std::uint64_t seed) {
  const auto sums = out.cpu_vector<double>();
  if (sums.size == 0) throw std::invalid_argument("out: must not be empty");
  if (weights.scalar_type() == ScalarType::float32) {
    add_rows(weights.cpu_vector<float>(), sums, seed);
  } else {
    add_rows(weights.cpu_vector<double>(), sums, seed);
  }
}

}  // namespace pythermo::cpu
