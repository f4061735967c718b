// A channel normalised by the statistics of its batch, then ReLU: the arithmetic of one element, or of
// vectors of elements of several channels.
#pragma once

#include <cmath>

#include "portable.hpp"

namespace pythermo::batch_norm {

// What a channel's mean and variance come from. The shift, any of its elements, keeps the digits of a
// variance that is small beside the mean: of them at most log10(count) are lost.
struct Moments {
  double sum = 0.0, squares = 0.0;  // of x - shift

  PYTHERMO_INLINE void add(const Moments& other) {
    sum += other.sum;
    squares += other.squares;
  }
  double mean(double shift, double count) const { return shift + sum / count; }
  double scale(double count, double eps) const {
    const double apart = sum / count, variance = squares / count - apart * apart;
    return 1.0 / std::sqrt((variance < 0.0 ? 0.0 : variance) + eps);
  }
};

template <class Value>
PYTHERMO_INLINE Value normalised(Value x, Value mean, Value scale) {
  return (x - mean) * scale;
}

// NaN stays NaN, that divergence is seen.
template <class Value>
PYTHERMO_INLINE Value relu(Value x) {
  const Value zero{};
  return x <= zero ? zero : x;
}

// The gradient of an element from that of its normalised value. As the mean and the variance depend on each
// element, the channel's means of that gradient (`mean_grad`) and of its product with the normalised values
// (`slope`) are taken off.
template <class Value>
PYTHERMO_INLINE Value input_gradient(Value grad, Value normalised, Value scale, Value mean_grad,
                                     Value slope) {
  return (grad - (mean_grad + normalised * slope)) * scale;
}

}  // namespace pythermo::batch_norm
