// What every kernel's host side shares: tensors on the device, launches, and their errors. Kernels are
// launched here and nowhere else.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "../tensor_view.hpp"

namespace pythermo::cuda {

// Where the tensors of kernels lie; the tests' emulation works on those of the CPU.
#if defined(PYTHERMO_EMULATED_CUDA)
constexpr auto device_type = dlpack::DeviceType::cpu;
#else
constexpr auto device_type = dlpack::DeviceType::cuda;
#endif

inline void check(cudaError_t error, const std::string& what) {
  if (error != cudaSuccess) throw std::runtime_error(what + ": CUDA says: " + cudaGetErrorString(error));
}

struct LaunchShape {
  const char* kernel;  // its name, for messages
  std::size_t blocks;
  unsigned threads;
  std::size_t shared_bytes = 0;  // of dynamic shared memory
  unsigned rows = 1;             // of blocks: the grid's second dimension

  std::string text() const {
    return std::string("kernel ") + kernel + " (" + std::to_string(blocks) + " x " + std::to_string(rows) +
           " blocks of " + std::to_string(threads) + " threads, " + std::to_string(shared_bytes) +
           " bytes of shared memory)";
  }
};

namespace detail {

template <class... Parameters>
void launch(const LaunchShape& shape, cudaStream_t stream, void (*kernel)(Parameters...), bool cooperative,
            Parameters... arguments) {
  if (shape.blocks == 0 || shape.blocks > 0x7fffffffu) {
    throw std::invalid_argument(shape.text() + ": has no or too many blocks");
  }
  const dim3 grid(static_cast<unsigned>(shape.blocks), shape.rows), block(shape.threads);
  void* pointers[] = {static_cast<void*>(&arguments)...};
  check(cooperative ? cudaLaunchCooperativeKernel(kernel, grid, block, pointers, shape.shared_bytes, stream)
                    : cudaLaunchKernel(kernel, grid, block, pointers, shape.shared_bytes, stream),
        shape.text());
}

template <class T>
struct Same {
  using type = T;
};

}  // namespace detail

template <class... Parameters>
void launch(const LaunchShape& shape, cudaStream_t stream, void (*kernel)(Parameters...),
            typename detail::Same<Parameters>::type... arguments) {
  detail::launch(shape, stream, kernel, false, arguments...);
}

// All blocks run at once, so that they may wait for each other: at most blocks_at_once.
template <class... Parameters>
void launch_cooperative(const LaunchShape& shape, cudaStream_t stream, void (*kernel)(Parameters...),
                        typename detail::Same<Parameters>::type... arguments) {
  detail::launch(shape, stream, kernel, true, arguments...);
}

inline void require_threads(unsigned threads, unsigned most) {
  if (threads == 0 || threads > most || threads % 32 != 0) {
    throw std::invalid_argument("threads: must be a multiple of 32 up to " + std::to_string(most));
  }
}

inline std::size_t multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return static_cast<std::size_t>(count);
}

// Of one block, where a kernel allows it.
inline std::size_t most_shared_bytes() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
  return static_cast<std::size_t>(bytes);
}

template <class Kernel>
void allow_shared_bytes(Kernel kernel, std::size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
}

template <class Kernel>
std::size_t blocks_at_once(Kernel kernel, unsigned threads, std::size_t shared_bytes = 0) {
  int each = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, static_cast<int>(threads), shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return static_cast<std::size_t>(each) * multiprocessors();
}

template <class T>
VectorView<T> device_vector(const TensorView& view) {
  return view.vector_on<T>(device_type);
}

template <class T>
T* device_array(const TensorView& view, std::size_t size) {
  return view.sized_on<T>(device_type, size);
}

// Null for an array that is empty, which means that it is not asked for.
template <class T>
T* optional_array(const TensorView& view, std::size_t size) {
  return device_vector<T>(view).size == 0 ? nullptr : device_array<T>(view, size);
}

}  // namespace pythermo::cuda
