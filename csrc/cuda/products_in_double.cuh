// Products of small matrices in double on the tensor cores.
#pragma once

#include <cuda_runtime.h>

#include "launch.hpp"

namespace pythermo::cuda {

// A warp multiplies [8, 4] by [4, 8]: lane l brings a[l / 4][l % 4] and b[l % 4][l / 4], and keeps the sums
// at row l / 4 of columns 2 (l % 4) and 2 (l % 4) + 1.
constexpr unsigned product_side = 8, product_depth = 4;

__device__ __forceinline__ void add_product(double a, double b, double& first, double& second) {
#if defined(PYTHERMO_EMULATED_CUDA)
  emulation::add_product_8x8x4(a, b, first, second);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+d"(first), "+d"(second)
      : "d"(a), "d"(b));
#else
  __trap();  // see has_products_in_double
#endif
}

// Whether the current device multiplies in double at half of its rate in single precision: A100, H100, H200.
inline bool has_products_in_double() {
  int device = 0, major = 0, ratio = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&ratio, cudaDevAttrSingleToDoublePrecisionPerfRatio, device),
        "cudaDeviceGetAttribute");
  return major >= 8 && ratio <= 2;
}

}  // namespace pythermo::cuda
