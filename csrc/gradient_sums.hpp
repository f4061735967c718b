// What one element of a stochastic gradient adds to the sums that its signal-to-noise ratio needs.
#pragma once

#include "portable.hpp"

namespace pythermo {

struct GradientSums {
  double squared = 0.0;   // |g|^2
  double distance = 0.0;  // |g - center|^2

  PYTHERMO_INLINE void add(double grad, double center) {
    const double apart = grad - center;
    squared += grad * grad;
    distance += apart * apart;
  }

  PYTHERMO_INLINE void add(const GradientSums& other) {
    squared += other.squared;
    distance += other.distance;
  }
};

}  // namespace pythermo
