#include "../lanes_batch_norm.hpp"

#include <type_traits>

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

constexpr std::size_t lanes = register_lanes<float>;
using Doubled = Vector<double, lanes>;

// So many channels are summed together, and so many pixels in float: of 2^-24 a pixel, what is lost stays
// below 4e-6 of the sum of sizes.
constexpr std::size_t together = 4, run = 64;

PYTHERMO_INLINE void add_to(double* sums, Members part) {
  store(load<lanes>(sums) + __builtin_convertvector(part, Doubled), sums);
}

// Adds to two sums of each channel what pair(place, sum, other) adds to them at each pixel.
template <class Pair>
PYTHERMO_INLINE void add_pairs(std::size_t pixels, std::size_t channels, double* sums, double* others,
                               const Pair& pair) {
  const auto add = [&](auto count, std::size_t c) {
    for (std::size_t first = 0; first < pixels; first += run) {
      const std::size_t last = pixels - first < run ? pixels : first + run;
      Members sum[count] = {}, other[count] = {};
      for (std::size_t p = first; p < last; ++p) {
        for (std::size_t i = 0; i < count; ++i) {
          pair((p * channels + c + i) * lanes, (c + i) * lanes, sum[i], other[i]);
        }
      }
      for (std::size_t i = 0; i < count; ++i) {
        add_to(sums + (c + i) * lanes, sum[i]);
        add_to(others + (c + i) * lanes, other[i]);
      }
    }
  };
  std::size_t c = 0;
  for (; c + together <= channels; c += together) add(std::integral_constant<std::size_t, together>(), c);
  for (; c + 2 <= channels; c += 2) add(std::integral_constant<std::size_t, 2>(), c);
  if (c < channels) add(std::integral_constant<std::size_t, 1>(), c);
}

}  // namespace

void add_member_moments(const float* x, std::size_t pixels, std::size_t channels, const float* shift,
                        double* sums, double* squares) {
  add_pairs(pixels, channels, sums, squares,
            [=](std::size_t i, std::size_t c, Members& sum, Members& square) {
              const Members apart = load_members(x + i) - load_members(shift + c);
              sum += apart;
              square += apart * apart;
            });
}

template <bool rectify>
void add_member_gradients(const float* output, const float* grad, std::size_t pixels, std::size_t channels,
                          double* sums, double* products) {
  add_pairs(pixels, channels, sums, products,
            [=](std::size_t i, std::size_t, Members& sum, Members& product) {
              const Members y = load_members(output + i);
              Members passed = load_members(grad + i);
              if constexpr (rectify) passed = y > 0.0f ? passed : Members{};
              sum += passed;
              product += passed * y;
            });
}

template void add_member_gradients<true>(const float*, const float*, std::size_t, std::size_t, double*,
                                         double*);
template void add_member_gradients<false>(const float*, const float*, std::size_t, std::size_t, double*,
                                          double*);

}  // namespace pythermo::cpu::PYTHERMO_ISA
