#include <cuda_runtime.h>

#include "device.hpp"

namespace pythermo::cuda {

std::string describe_device() {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  cudaDeviceProp properties{};
  if (error == cudaSuccess && count > 0) error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess) return std::string("not available: ") + cudaGetErrorString(error);
  if (count == 0) return "not available: no device";
  return std::string("available: ") + properties.name + ", compute capability " +
         std::to_string(properties.major) + "." + std::to_string(properties.minor);
}

}  // namespace pythermo::cuda
