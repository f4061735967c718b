// How kernels tell the host what is wrong with the points.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "../knn.hpp"

namespace pythermo::cuda {

// The distance from a point to itself, and one that overflows.
constexpr double infinity = std::numeric_limits<double>::infinity();

// The lowest finding stays: the index of a row that is not finite, or one of knn_status.
__device__ __forceinline__ void report(std::int64_t* status, std::int64_t finding) {
  atomicMin(reinterpret_cast<long long*>(status), static_cast<long long>(finding));
}

}  // namespace pythermo::cuda
