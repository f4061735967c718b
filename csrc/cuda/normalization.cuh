// What normalizes, pools and rectifies images, and takes gradients back: a thread for a window of pixels, of
// as many numbers of a pixel as lie in a pack.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "../batch_norm_relu.hpp"
#include "launch.hpp"
#include "packs.cuh"

namespace pythermo::cuda {

constexpr unsigned window_threads = 256;

// Images [groups, count, height, width, numbers of a pixel], each number of a pixel with constants of its own
// in each group: [groups, 4, numbers], mean, scale, mean_grad and slope of batch_norm_relu.hpp.
template <class T>
struct NormalizedImages {
  T* data;
  unsigned groups, count, height, width, pixel_size;
};

// Windows of pixels, those that are cut off at the ends of sides too; each image has blocks of its own.
struct Windows {
  unsigned images, rows, columns, packs;  // images: of all groups; packs: of a pixel

  template <class T>
  Windows(const NormalizedImages<T>& x, unsigned pool, unsigned pack_width)
      : images(x.groups * x.count),
        rows((x.height + pool - 1) / pool),
        columns((x.width + pool - 1) / pool),
        packs(x.pixel_size / pack_width) {}

  PYTHERMO_INLINE unsigned of_image() const { return rows * columns * packs; }
  PYTHERMO_INLINE unsigned blocks_of_image() const {
    return (of_image() + window_threads - 1) / window_threads;
  }

  LaunchShape shape(const char* kernel) const {
    return {kernel, std::size_t{images} * blocks_of_image(), window_threads};
  }
};

// Calls each(i) for the numbers of a pack.
template <class P, class Each>
__device__ __forceinline__ P each_of(const Each& each) {
  P pack;
#pragma unroll
  for (int i = 0; i < P::width; ++i) pack.value[i] = each(i);
  return pack;
}

template <class P>
__device__ __forceinline__ void keep_larger(P& largest, P other) {
#pragma unroll
  for (int i = 0; i < P::width; ++i) {
    largest.value[i] = other.value[i] > largest.value[i] ? other.value[i] : largest.value[i];
  }
}

// Which pixels a thread works on, and the constants of their numbers.
template <class T, int width, unsigned constant_count>
struct PackOfPixel {
  using P = Pack<T, width>;

  unsigned image, row, column, of_pixel;  // image: counted through all groups
  bool there;
  P constants[constant_count];

  __device__ __forceinline__ PackOfPixel(const NormalizedImages<T>& x, const Windows& windows, const T* all) {
    const unsigned blocks = windows.blocks_of_image();
    image = blockIdx.x / blocks;
    const unsigned thread = blockIdx.x % blocks * window_threads + threadIdx.x;
    there = thread < windows.of_image();
    const unsigned pixel = thread / windows.packs;
    of_pixel = thread % windows.packs * width;
    row = pixel / windows.columns;
    column = pixel % windows.columns;
    for (unsigned k = 0; k < constant_count; ++k) {
      const std::size_t place = std::size_t{image / x.count * 4 + k} * x.pixel_size + of_pixel;
      constants[k] = *reinterpret_cast<const P*>(all + place);
    }
  }

  __device__ __forceinline__ P* pixel(const NormalizedImages<T>& images, unsigned y, unsigned x) const {
    const std::size_t number = (std::size_t{image} * images.height + y) * images.width + x;
    return reinterpret_cast<P*>(images.data + number * images.pixel_size + of_pixel);
  }
};

template <class T, int width, unsigned pool, bool rectify>
__global__ void __launch_bounds__(window_threads)
    normalization_kernel(const NormalizedImages<T> x, const Windows windows, const T* constants,
                         const NormalizedImages<T> output) {
  using P = Pack<T, width>;
  const PackOfPixel<T, width, 2> own(x, windows, constants);
  if (!own.there) return;
  P largest = *own.pixel(x, own.row * pool, own.column * pool);
  if constexpr (pool == 2) {
    for (unsigned k = 1; k < 4; ++k) {
      keep_larger(largest, *own.pixel(x, own.row * 2 + k / 2, own.column * 2 + k % 2));
    }
  }
  *own.pixel(output, own.row, own.column) = each_of<P>([&](int i) {
    const T value =
        batch_norm::normalized(largest.value[i], own.constants[0].value[i], own.constants[1].value[i]);
    return rectify ? batch_norm::relu(value) : value;
  });
}

template <class T, int width, unsigned pool, bool rectify>
__global__ void __launch_bounds__(window_threads)
    normalization_backward_kernel(const NormalizedImages<T> x, const Windows windows, const T* constants,
                                  const NormalizedImages<T> grad, const NormalizedImages<T> grad_x) {
  using P = Pack<T, width>;
  const PackOfPixel<T, width, 4> own(x, windows, constants);
  if (!own.there) return;
  const auto write = [&](unsigned y, unsigned c, const P& value, const P& routed) {
    *own.pixel(grad_x, y, c) = each_of<P>([&](int i) {
      const T scale = own.constants[1].value[i];
      const T normalized = batch_norm::normalized(value.value[i], own.constants[0].value[i], scale);
      const T passed = rectify && !(normalized > T{0}) ? T{0} : routed.value[i];
      return batch_norm::input_gradient(passed, normalized, scale, own.constants[2].value[i],
                                        own.constants[3].value[i]);
    });
  };
  const unsigned y = own.row * pool, c = own.column * pool;
  if (pool == 1) {
    write(y, c, *own.pixel(x, y, c), *own.pixel(grad, y, c));
    return;
  }
  if (own.row >= grad.height || own.column >= grad.width) {
    for (unsigned k = 0; k < 4; ++k) {
      const unsigned row = y + k / 2, column = c + k % 2;
      if (row < x.height && column < x.width) write(row, column, *own.pixel(x, row, column), P{});
    }
    return;
  }
  P values[4], left = *own.pixel(grad, own.row, own.column);
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) values[k] = *own.pixel(x, y + k / 2, c + k % 2);
  P largest = values[0];
#pragma unroll
  for (unsigned k = 1; k < 4; ++k) keep_larger(largest, values[k]);
  // To the first of the largest.
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) {
    const auto is_largest = [&](int i) { return values[k].value[i] == largest.value[i]; };
    write(y + k / 2, c + k % 2, values[k],
          each_of<P>([&](int i) { return is_largest(i) ? left.value[i] : T{0}; }));
    left = each_of<P>([&](int i) { return is_largest(i) ? T{0} : left.value[i]; });
  }
}

}  // namespace pythermo::cuda
