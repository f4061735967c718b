// The part of CUDA's runtime and language that csrc/cuda uses, by emulation.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>
#include <utility>

#include "emulation.hpp"

// --- the language -----------------------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (::emulation::identity().thread)
#define blockIdx (::emulation::identity().block)
#define blockDim (::emulation::identity().block_size)
#define gridDim (::emulation::identity().grid)

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};

inline void __syncthreads() { emulation::synchronize_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::ballot(mask, true, "__syncwarp"); }
inline void __threadfence() {}
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  return emulation::exchange_value(mask, value, static_cast<unsigned>(source) % 32u, "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return emulation::exchange_value(mask, value, emulation::lane() ^ static_cast<unsigned>(bits),
                                   "__shfl_xor_sync");
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
  const unsigned source = emulation::lane() + distance;
  return emulation::exchange_value(mask, value, source < 32u ? source : emulation::lane(),
                                   "__shfl_down_sync");
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
  const unsigned own = emulation::lane();
  return emulation::exchange_value(mask, value, own >= distance ? own - distance : own, "__shfl_up_sync");
}
inline unsigned __ballot_sync(unsigned mask, bool predicate) {
  return emulation::ballot(mask, predicate, "__ballot_sync");
}
inline bool __any_sync(unsigned mask, bool predicate) {
  return emulation::ballot(mask, predicate, "__any_sync") != 0;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

// Fibers do not interrupt each other: a plain operation is atomic.
template <class T>
T atomicAdd(T* address, T value) {
  return std::exchange(*address, static_cast<T>(*address + value));
}
template <class T>
T atomicMin(T* address, T value) {
  return std::exchange(*address, std::min(*address, value));
}
template <class T>
T atomicMax(T* address, T value) {
  return std::exchange(*address, std::max(*address, value));
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  const T before = *address;
  if (before == expected) *address = value;
  return before;
}

// --- the runtime
// --------------------------------------------------------------------------------------------
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorLaunchFailure = 719 };
using cudaStream_t = void*;
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrSingleToDoublePrecisionPerfRatio
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToDevice = 3 };

namespace emulation {
inline std::string last_failure;  // of a launch

template <class... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments,
                   std::size_t shared_bytes, bool cooperative) {
  if (block.x * block.y * block.z == 0 || block.x * block.y * block.z > 1024 || grid.x == 0) {
    last_failure = "invalid configuration argument";
    return cudaErrorInvalidValue;
  }
  const auto call = [&]<std::size_t... I>(std::index_sequence<I...>) {
    const std::tuple<Parameters...> copies(*static_cast<Parameters*>(arguments[I])...);
    return run([&] { kernel(std::get<I>(copies)...); }, grid, block, shared_bytes, cooperative);
  };
  last_failure = call(std::index_sequence_for<Parameters...>());
  return last_failure.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}
}  // namespace emulation

template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, void** arguments,
                             std::size_t shared_bytes, cudaStream_t) {
  return emulation::launch(kernel, grid, block, arguments, shared_bytes, false);
}
template <class... Parameters>
cudaError_t cudaLaunchCooperativeKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                                        void** arguments, std::size_t shared_bytes, cudaStream_t) {
  return emulation::launch(kernel, grid, block, arguments, shared_bytes, true);
}
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : emulation::last_failure.c_str();
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
// A small device: few blocks at once, so that loops over the grid take several turns.
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 2;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = emulation::most_shared_bytes();
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrSingleToDoublePrecisionPerfRatio:
      *value = emulation::single_to_double_ratio();
      break;
  }
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, std::size_t) {
  *blocks = 2;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int bytes) {
  if (bytes <= emulation::most_shared_bytes()) return cudaSuccess;
  emulation::last_failure = "invalid argument";
  return cudaErrorInvalidValue;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
