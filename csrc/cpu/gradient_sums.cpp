#include "../gradient_sums.hpp"

#include <algorithm>
#include <vector>

#include "parallel.hpp"
#include "sized.hpp"

namespace pythermo::cpu {
namespace {

constexpr std::size_t block_size = 16384;

// Sums that do not wait for each other: as many as the compiler makes vectors of.
constexpr std::size_t lanes = 8;

template <class T>
GradientSums sums_of_block(const T* grad, const double* center, double* total, std::size_t size) {
  GradientSums each[lanes];
  const auto add = [&](std::size_t i, std::size_t lane) {
    const double value = static_cast<double>(grad[i]);
    each[lane].add(value, center == nullptr ? 0.0 : center[i]);
    if (total != nullptr) total[i] += value;
  };
  const std::size_t whole = size / lanes * lanes;
  for (std::size_t i = 0; i < whole; i += lanes) {
    for (std::size_t l = 0; l < lanes; ++l) add(i + l, l);
  }
  for (std::size_t i = whole; i < size; ++i) add(i, i - whole);
  GradientSums sums;
  for (const GradientSums& lane : each) sums.add(lane);
  return sums;
}

template <class T>
GradientSums sums_of(VectorView<T> grad, const double* center, double* total, int threads) {
  const std::size_t blocks = (grad.size + block_size - 1) / block_size;
  std::vector<GradientSums> parts(blocks);
  parallel_for(blocks, threads, [&](std::size_t first, std::size_t last) {
    for (std::size_t block = first; block < last; ++block) {
      const std::size_t start = block * block_size;
      parts[block] =
          sums_of_block(grad.data + start, center == nullptr ? nullptr : center + start,
                        total == nullptr ? nullptr : total + start, std::min(block_size, grad.size - start));
    }
  });
  GradientSums sums;
  for (const GradientSums& part : parts) sums.add(part);
  return sums;
}

template <class T>
void write_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                const TensorView& sums, int threads) {
  const VectorView<T> g = grad.cpu_vector<T>();
  auto* const out = sized<double>(sums, 2);
  const GradientSums found =
      sums_of(g, optional<double>(center, g.size), optional<double>(total, g.size), threads);
  out[0] = found.squared;
  out[1] = found.distance;
}

}  // namespace

void gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                   const TensorView& sums, int threads) {
  if (grad.scalar_type() == ScalarType::float32) {
    write_sums<float>(grad, center, total, sums, threads);
  } else {
    write_sums<double>(grad, center, total, sums, threads);
  }
}

}  // namespace pythermo::cpu
