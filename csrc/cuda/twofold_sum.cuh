// Sums with twice the digits of their terms, at a cost that does not depend on how fast a device is in
// double.
#pragma once

#include <cuda_runtime.h>

namespace pythermo::cuda {

// The second number is what the roundings of the first have lost. Infinity becomes NaN.
template <class T>
struct TwofoldSum {
  T high{}, low{};

  __device__ __forceinline__ void add(T term) {
    const T sum = high + term, grown = sum - high;
    low += (high - (sum - grown)) + (term - grown);
    high = sum + low;
    low -= high - sum;
  }
  __device__ __forceinline__ double total() const {
    return static_cast<double>(high) + static_cast<double>(low);
  }
};

}  // namespace pythermo::cuda
