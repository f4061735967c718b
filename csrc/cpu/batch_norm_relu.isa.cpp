#include "../batch_norm_relu.hpp"

#include <type_traits>

#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

using batch_norm::Moments;

// Calls body(size, channel) for consecutive vectors of channels, at most `largest` wide.
template <std::size_t largest, class Body>
PYTHERMO_INLINE void for_vectors(std::size_t channels, const Body& body, std::size_t channel = 0) {
  for (; channel + largest <= channels; channel += largest) {
    body(std::integral_constant<std::size_t, largest>(), channel);
  }
  if constexpr (largest > 1) for_vectors<largest / 2>(channels, body, channel);
}

// Adds up pairs of numbers of each channel over the pixels, first in registers.
template <class T, class Pair>
PYTHERMO_INLINE void add_pairs(std::size_t pixels, std::size_t channels, Moments* moments, const Pair& pair) {
  for_vectors<lane_count>(channels, [&](auto size, std::size_t c) {
    Vector<double, size> sum{}, squares{};
    for (std::size_t p = 0; p < pixels; ++p) pair(size, c, p * channels + c, sum, squares);
    for (std::size_t l = 0; l < size; ++l) moments[c + l].add({sum[l], squares[l]});
  });
}

}  // namespace

template <class T>
void add_moments(const T* x, std::size_t pixels, std::size_t channels, const T* shift, Moments* moments) {
  add_pairs<T>(pixels, channels, moments,
               [=](auto size, std::size_t c, std::size_t i, auto& sum, auto& squares) {
                 const auto apart = load_double<size>(x + i) - load_double<size>(shift + c);
                 sum += apart;
                 squares += apart * apart;
               });
}

template <class T, bool rectify>
void add_gradients(const T* output, const T* grad, std::size_t pixels, std::size_t channels, Moments* sums) {
  add_pairs<T>(pixels, channels, sums, [=](auto size, std::size_t, std::size_t i, auto& sum, auto& products) {
    const auto y = load_double<size>(output + i), g = load_double<size>(grad + i);
    auto passed = g;
    if constexpr (rectify) passed = y > 0.0 ? g : Vector<double, size>{};
    sum += passed;
    products += passed * y;
  });
}

// Fetches what the next rows have at the same place: channel by channel, no row is read in order.
template <class T, std::size_t pool>
PYTHERMO_INLINE void fetch_next(const T* from, std::size_t row, std::size_t pixel) {
  for (std::size_t y = 0; y < pool; ++y) {
    for (std::size_t x = 0; x < pool; ++x) {
      __builtin_prefetch(from + (pool + y) * row + x * pixel, 0, 2);
    }
  }
}

template <class T, std::size_t pool, bool rectify>
void forward_row(const T* x, RowShape shape, const ChannelConstants<T>& constants, T* output) {
  const std::size_t channels = shape.channels, row = shape.width * channels;
  for_vectors<register_lanes<T>>(channels, [&](auto size, std::size_t c) {
    const auto mean = load<size>(constants.mean + c), scale = load<size>(constants.scale + c);
    for (std::size_t p = 0; p < shape.width / pool; ++p) {
      const T* const from = x + p * pool * channels + c;
      auto largest = load<size>(from);
      fetch_next<T, pool>(from, row, channels);
      __builtin_prefetch(output + (shape.width / pool + p) * channels + c, 1);
      if constexpr (pool == 2) {
        const auto keep = [&](auto other) { largest = other > largest ? other : largest; };
        keep(load<size>(from + channels));
        keep(load<size>(from + row));
        keep(load<size>(from + row + channels));
      }
      auto value = batch_norm::normalized(largest, mean, scale);
      if constexpr (rectify) value = batch_norm::relu(value);
      store(value, output + p * channels + c);
    }
  });
}

template <class T, std::size_t pool, bool rectify>
void backward_row(const T* x, RowShape shape, const ChannelConstants<T>& constants, const T* grad,
                  T* grad_x) {
  const std::size_t channels = shape.channels, row = shape.width * channels;
  for_vectors<register_lanes<T>>(channels, [&](auto size, std::size_t c) {
    const auto mean = load<size>(constants.mean + c), scale = load<size>(constants.scale + c),
               mean_grad = load<size>(constants.mean_grad + c), slope = load<size>(constants.slope + c);
    const Vector<T, size> zero{};
    const auto write = [&](std::size_t i, auto value, auto routed) {
      const auto normalized = batch_norm::normalized(value, mean, scale);
      if constexpr (rectify) routed = normalized > zero ? routed : zero;
      store(batch_norm::input_gradient(routed, normalized, scale, mean_grad, slope), grad_x + i);
    };
    const std::size_t pooled = grad == nullptr ? 0 : shape.width / pool;
    for (std::size_t p = 0; p < pooled; ++p) {
      const std::size_t i = p * pool * channels + c;
      fetch_next<T, pool>(x + i, row, channels);
      __builtin_prefetch(grad + (pooled + p) * channels + c);
      auto left = load<size>(grad + p * channels + c);
      if constexpr (pool == 1) {
        write(i, load<size>(x + i), left);
      } else {
        // To the first of the largest.
        const std::size_t at[4] = {i, i + channels, i + row, i + row + channels};
        const Vector<T, size> values[4] = {load<size>(x + at[0]), load<size>(x + at[1]),
                                           load<size>(x + at[2]), load<size>(x + at[3])};
        auto largest = values[0];
        for (const auto value : values) largest = value > largest ? value : largest;
        for (int j = 0; j < 4; ++j) {
          write(at[j], values[j], values[j] == largest ? left : zero);
          left = values[j] == largest ? zero : left;
        }
      }
    }
    for (std::size_t p = pooled * pool; p < shape.width; ++p) {
      const std::size_t i = p * channels + c;
      write(i, load<size>(x + i), zero);
      if (pool == 2 && grad != nullptr) write(i + row, load<size>(x + i + row), zero);
    }
  });
}

#define PYTHERMO_INSTANTIATE_ROWS(T, pool, rectify)                                                \
  template void forward_row<T, pool, rectify>(const T*, RowShape, const ChannelConstants<T>&, T*); \
  template void backward_row<T, pool, rectify>(const T*, RowShape, const ChannelConstants<T>&, const T*, T*);
#define PYTHERMO_INSTANTIATE_RECTIFIED(T, rectify)                                                 \
  template void add_gradients<T, rectify>(const T*, const T*, std::size_t, std::size_t, Moments*); \
  PYTHERMO_INSTANTIATE_ROWS(T, 1, rectify)                                                         \
  PYTHERMO_INSTANTIATE_ROWS(T, 2, rectify)
#define PYTHERMO_INSTANTIATE(T)                                                      \
  template void add_moments(const T*, std::size_t, std::size_t, const T*, Moments*); \
  PYTHERMO_INSTANTIATE_RECTIFIED(T, true)                                            \
  PYTHERMO_INSTANTIATE_RECTIFIED(T, false)

PYTHERMO_INSTANTIATE(float)
PYTHERMO_INSTANTIATE(double)

}  // namespace pythermo::cpu::PYTHERMO_ISA
