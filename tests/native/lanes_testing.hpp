// What the tests of the kernels of members side by side share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <utility>
#include <vector>

#include "testing.hpp"

namespace pythermo {

using Floats = Array<float>;

inline Floats random_array(std::vector<std::int64_t> shape, unsigned seed) {
  Floats array(std::move(shape));
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  for (float& value : array.values) value = normal(generator);
  return array;
}

inline std::size_t at(const Floats& array, std::initializer_list<std::size_t> index) {
  std::size_t place = 0, axis = 0;
  for (const std::size_t i : index) place = place * static_cast<std::size_t>(array.shape[axis++]) + i;
  return place;
}

// The largest deviation in units of the largest expected number.
inline double deviation(const std::vector<float>& found, const std::vector<double>& expected) {
  double apart = 0.0, largest = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    apart = std::max(apart, std::fabs(static_cast<double>(found[i]) - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  return largest > 0.0 ? apart / largest : apart;
}

inline Floats image_of(const Floats& all, std::size_t image) {
  std::vector<std::int64_t> shape = all.shape;
  shape[0] = 1;
  Floats one(shape);
  std::copy_n(all.values.begin() + static_cast<std::ptrdiff_t>(image * one.values.size()), one.values.size(),
              one.values.begin());
  return one;
}

}  // namespace pythermo
