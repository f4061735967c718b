// Members of an ensemble on a device: 32 of them lie side by side, one for each thread of a warp, and groups
// of 32 one after the other. The numbers of a group's members at one place are a line.
//
// Images lie as [groups, N, H, W, C, 32], weights as [groups, kernel, kernel, C, O, 32].
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../portable.hpp"
#include "../tensor_view.hpp"
#include "launch.hpp"
#include "warp.cuh"

namespace pythermo::cuda {

constexpr unsigned member_lanes = warp_threads;

// A line is copied, or gone through, in pieces of 16 bytes.
constexpr unsigned piece_members = 4, line_pieces = member_lanes / piece_members;

// What blocks of the kernels of members have.
constexpr unsigned lane_warps = 8, lane_threads = lane_warps * warp_threads;

template <class Count>
PYTHERMO_INLINE constexpr Count quotient_up(Count a, Count b) {
  return (a + b - 1) / b;
}

// Images of members, or what else lies so.
struct LaneImages {
  float* data;
  unsigned groups, count, height, width, channels;

  PYTHERMO_INLINE std::size_t pixels() const { return std::size_t{height} * width; }  // of an image
  PYTHERMO_INLINE std::size_t pixel_size() const { return std::size_t{channels} * member_lanes; }
  PYTHERMO_INLINE std::size_t image_size() const { return pixels() * pixel_size(); }
  PYTHERMO_INLINE std::size_t group_size() const { return count * image_size(); }
};

inline LaneImages lane_images(const TensorView& view) {
  const auto sizes = view.sizes(6);
  require(sizes[5] == member_lanes, view, "must have 32 members in its last dimension");
  for (const std::size_t size : sizes)
    require(size > 0 && size < (1u << 31), view, "must have groups, images, pixels");
  const auto narrow = [&](int axis) { return static_cast<unsigned>(sizes[static_cast<std::size_t>(axis)]); };
  const LaneImages images{
      view.array_on<float>(device_type), narrow(0), narrow(1), narrow(2), narrow(3), narrow(4)};
  require(images.image_size() < (std::size_t{1} << 29), view,
          "has images of more than 2^29 numbers of 32 members");
  return images;
}

// The tensors [groups, D, 32] of weights and gradients.
struct LaneWeights {
  float* data;
  std::size_t groups, size;  // size: D

  PYTHERMO_INLINE std::size_t lines() const { return groups * size; }
};

inline LaneWeights lane_weights(const TensorView& view) {
  const auto sizes = view.sizes(3);
  require(sizes[2] == member_lanes, view, "must have 32 members in its last dimension");
  require(sizes[0] > 0, view, "must have groups");
  return {view.array_on<float>(device_type), sizes[0], sizes[1]};
}

// The blocks that have a thread for each of `count` things.
inline LaunchShape one_thread_each(const char* kernel, std::size_t count) {
  return {kernel, quotient_up(count, std::size_t{lane_threads}), lane_threads};
}

__device__ __forceinline__ std::size_t thread_of_grid() {
  return std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

// Begins to copy a piece into shared memory, or zeros where it is not there: from anywhere then.
__device__ __forceinline__ void copy_piece(const float* from, bool there, float* to) {
#if defined(PYTHERMO_EMULATED_CUDA)
  __pipeline_memcpy_async(to, from, piece_members * sizeof(float), there ? 0 : piece_members * sizeof(float));
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  // __pipeline_memcpy_async asks first whether there are zeros.
  const auto place = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(there ? 16 : 0)
               : "memory");
#else
  *reinterpret_cast<float4*>(to) = there ? *reinterpret_cast<const float4*>(from) : float4{0, 0, 0, 0};
#endif
}

// Adds up, in their order, the parts of sums [count] that blocks have left behind each other.
template <class T>
__device__ __forceinline__ double sum_of_parts(const T* parts, std::size_t part_count, std::size_t part_size,
                                               std::size_t at) {
  double sum = 0.0;
  for (std::size_t part = 0; part < part_count; ++part)
    sum += static_cast<double>(parts[part * part_size + at]);
  return sum;
}

}  // namespace pythermo::cuda
