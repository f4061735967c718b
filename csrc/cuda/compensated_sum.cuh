// Sums of which the roundings are not lost, at a cost that does not depend on how fast a device is in double.
#pragma once

#include <cuda_runtime.h>

namespace pythermo::cuda {

// By Kahan: the error is that of a term's rounding, however many terms there are. Infinity becomes NaN.
template <class T>
struct CompensatedSum {
  T sum{}, excess{};  // what the sum has too much

  __device__ __forceinline__ void add(T term) {
    const T wanted = term - excess, grown = sum + wanted;
    excess = (grown - sum) - wanted;
    sum = grown;
  }
  __device__ __forceinline__ double total() const {
    return static_cast<double>(sum) - static_cast<double>(excess);
  }
};

}  // namespace pythermo::cuda
