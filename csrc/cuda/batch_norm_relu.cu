#include <algorithm>

#include "../batch_norm_relu.hpp"
#include "normalization.cuh"
#include "warp.cuh"

namespace pythermo::cuda {
namespace {

using batch_norm::Images, batch_norm::Moments;

constexpr unsigned threads = 256, warps = threads / warp_threads;

// The pixels of all images in parts that depend on the images' size alone, each of one block, and in slabs of
// channels.
struct Parts {
  std::size_t pixels, each, count;
  unsigned channels, slabs;

  template <class T>
  explicit Parts(const Images<T>& images) : Parts(images.count * images.pixels(), images.channels) {}

  Parts(std::size_t all_pixels, std::size_t all_channels) : pixels(all_pixels) {
    constexpr std::size_t part_size = 8192, most_parts = 512;
    channels = static_cast<unsigned>(all_channels);
    slabs = (channels + threads - 1) / threads;
    const std::size_t of_slab = std::min<std::size_t>(all_channels, threads);
    const std::size_t wanted = std::clamp<std::size_t>(pixels * of_slab / part_size, 1, most_parts);
    each = (pixels + wanted - 1) / wanted;
    count = (pixels + each - 1) / each;
  }
  std::size_t sums_size() const { return count * 2 * channels; }
};

template <class T>
struct MomentPair {
  const T* x;
  __device__ __forceinline__ void add(std::size_t at, unsigned channel, Moments& moments) const {
    const double apart = static_cast<double>(x[at]) - static_cast<double>(x[channel]);
    moments.add({apart, apart * apart});
  }
};

template <class T, bool rectify>
struct GradientPair {
  const T *output, *grad;
  __device__ __forceinline__ void add(std::size_t at, unsigned, Moments& sums) const {
    const double y = static_cast<double>(output[at]), g = static_cast<double>(grad[at]);
    const double passed = rectify && !(y > 0.0) ? 0.0 : g;
    sums.add({passed, passed * y});
  }
};

// Adds up a pair of numbers of each pixel, channel by channel; leaves parts [parts, 2, C]. Threads of a block
// that have the same channel take turns with the pixels, and add up what they have by a tree.
template <class Pair>
__global__ void __launch_bounds__(threads) add_pairs_kernel(const Pair pair, const Parts parts, double* out) {
  auto* const of_threads = shared_memory<Moments>();
  const unsigned slab = blockIdx.y * threads, left = parts.channels - slab;
  const unsigned width = left < threads ? left : threads, strands = threads / width;
  const unsigned channel = slab + threadIdx.x % width, strand = threadIdx.x / width;
  const std::size_t begin = blockIdx.x * parts.each;
  const std::size_t end = begin + parts.each < parts.pixels ? begin + parts.each : parts.pixels;
  Moments sums;
  if (strand < strands) {
#pragma unroll 4
    for (std::size_t p = begin + strand; p < end; p += strands) {
      pair.add(p * parts.channels + channel, channel, sums);
    }
  }
  of_threads[threadIdx.x] = sums;
  for (unsigned gap = threads / 2; gap > 0; gap /= 2) {
    __syncthreads();
    if (strand < gap && strand + gap < strands) {
      of_threads[threadIdx.x].add(of_threads[threadIdx.x + gap * width]);
    }
  }
  if (strand > 0) return;
  double* const own = out + std::size_t{blockIdx.x} * 2 * parts.channels + channel;
  own[0] = of_threads[threadIdx.x].sum;
  own[parts.channels] = of_threads[threadIdx.x].squares;
}

// Lets `finish` have the sums of each channel: a warp adds up its parts.
template <class Finish>
__global__ void __launch_bounds__(threads)
    finish_sums_kernel(const double* parts, std::size_t part_count, unsigned channels, const Finish finish) {
  const unsigned channel = blockIdx.x * warps + threadIdx.x / warp_threads;
  if (channel >= channels) return;
  Moments sums;
  for (std::size_t part = lane_index(); part < part_count; part += warp_threads) {
    const double* const own = parts + part * 2 * channels + channel;
    sums.add({own[0], own[channels]});
  }
  sums = {warp_sum(sums.sum), warp_sum(sums.squares)};
  if (lane_index() == 0) finish(sums, channel);
}

template <class T>
struct WriteStatistics {
  const T* shift;
  double count, eps;
  T* statistics;  // [2, C]
  unsigned channels;

  __device__ __forceinline__ void operator()(const Moments& moments, unsigned channel) const {
    statistics[channel] = static_cast<T>(moments.mean(static_cast<double>(shift[channel]), count));
    statistics[channels + channel] = static_cast<T>(moments.scale(count, eps));
  }
};

template <class T>
struct WriteConstants {
  const T* statistics;  // [2, C]
  double count;
  T* constants;  // [4, C]
  unsigned channels;

  __device__ __forceinline__ void operator()(const Moments& sums, unsigned channel) const {
    constants[channel] = statistics[channel];
    constants[channels + channel] = statistics[channels + channel];
    constants[2 * channels + channel] = static_cast<T>(sums.sum / count);
    constants[3 * channels + channel] = static_cast<T>(sums.squares / count);
  }
};

template <class Pair, class Finish>
void add_up(const Parts& parts, const Pair& pair, const Finish& finish, double* workspace,
            cudaStream_t stream) {
  launch({"add_pairs", parts.count, threads, threads * sizeof(Moments), parts.slabs}, stream,
         &add_pairs_kernel<Pair>, pair, parts, workspace);
  launch({"finish_sums", (parts.channels + warps - 1) / warps, threads}, stream, &finish_sums_kernel<Finish>,
         workspace, parts.count, parts.channels, finish);
}

// Whether images may be taken as one: where no window of pixels lies in two of them, and 32 bits count all.
constexpr std::size_t most_numbers = std::size_t{1} << 31;
template <class T>
bool may_be_one(const Images<T>& images, std::size_t pool) {
  return images.height % pool == 0 && images.count * images.pixels() * images.channels < most_numbers;
}

// Images as they are, or one upon the other.
template <class T>
NormalizedImages<T> stacked(const Images<T>& images, bool as_one) {
  const std::size_t height = images.height * (as_one ? images.count : 1);
  require(height * images.width * images.channels < most_numbers, "x: an image has too many pixels");
  return {images.data,
          1,
          static_cast<unsigned>(as_one ? 1 : images.count),
          static_cast<unsigned>(height),
          static_cast<unsigned>(images.width),
          static_cast<unsigned>(images.channels)};
}

// Calls body with how many numbers of a pixel are read at once: a pack where all of them are aligned to it.
template <class T, class Body>
void with_packs(std::size_t channels, std::initializer_list<const T*> arrays, const Body& body) {
  const bool aligned = std::all_of(arrays.begin(), arrays.end(), [](const T* at) { return is_aligned(at); });
  if (aligned && channels % Pack<T>::width == 0) {
    body(std::integral_constant<int, Pack<T>::width>());
  } else {
    body(std::integral_constant<int, 1>());
  }
}

template <class T>
Images<T> pooled_of(const TensorView& view, const Images<T>& x, std::size_t pool) {
  return batch_norm::pooled_on<T>(device_type, view, x, pool);
}

}  // namespace

std::size_t batch_norm_relu_workspace_size(std::size_t pixels, std::size_t channels) {
  return Parts(pixels, channels).sums_size() + 4 * channels;
}

void batch_norm_relu(const TensorView& x, std::size_t width, std::size_t pool, bool rectify, double eps,
                     const TensorView& output, const TensorView& statistics, const TensorView& workspace,
                     std::uintptr_t stream) {
  batch_norm::with_type_and_pooling(x, pool, rectify, [&](auto zero, auto pooling, auto rectifying) {
    using T = decltype(zero);
    const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
    const Images<T> images = batch_norm::images_on<T>(device_type, x, width);
    const Images<T> pooled = pooled_of<T>(output, images, pool);
    T* const constants = device_array<T>(statistics, 2 * images.channels);
    const Parts parts(images);
    double* const sums = device_array<double>(workspace, parts.sums_size() + 4 * images.channels);
    add_up(parts, MomentPair<T>{images.data},
           WriteStatistics<T>{images.data, static_cast<double>(parts.pixels), eps, constants, parts.channels},
           sums, on_stream);
    const bool as_one = may_be_one(images, pool);
    const NormalizedImages<T> from = stacked(images, as_one), to = stacked(pooled, as_one);
    with_packs<T>(images.channels, {from.data, to.data, constants}, [&](auto pack_width) {
      const Windows windows(to, 1, pack_width);
      launch(windows.shape("normalization"), on_stream,
             &normalization_kernel<T, pack_width, pooling, rectifying>, from, windows, constants, to);
    });
  });
}

void batch_norm_relu_backward(const TensorView& x, std::size_t width, std::size_t pool, bool rectify,
                              const TensorView& output, const TensorView& statistics, const TensorView& grad,
                              const TensorView& grad_x, const TensorView& workspace, std::uintptr_t stream) {
  batch_norm::with_type_and_pooling(x, pool, rectify, [&](auto zero, auto pooling, auto rectifying) {
    using T = decltype(zero);
    const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
    const Images<T> images = batch_norm::images_on<T>(device_type, x, width);
    const Images<T> outputs = pooled_of<T>(output, images, pool), grads = pooled_of<T>(grad, images, pool);
    const Images<T> grads_x = pooled_of<T>(grad_x, images, 1);
    const T* const of_channels = device_array<T>(statistics, 2 * images.channels);
    const Parts all(images);
    double* const sums = device_array<double>(workspace, all.sums_size() + 4 * images.channels);
    T* const constants = reinterpret_cast<T*>(sums + all.sums_size());
    add_up(Parts(outputs), GradientPair<T, rectifying>{outputs.data, grads.data},
           WriteConstants<T>{of_channels, static_cast<double>(all.pixels), constants, all.channels}, sums,
           on_stream);
    const bool as_one = may_be_one(images, pool);
    const NormalizedImages<T> from = stacked(images, as_one), grad_from = stacked(grads, as_one),
                              to = stacked(grads_x, as_one);
    with_packs<T>(images.channels, {from.data, grad_from.data, to.data, constants}, [&](auto pack_width) {
      const Windows windows(from, pooling, pack_width);
      launch(windows.shape("normalization_backward"), on_stream,
             &normalization_backward_kernel<T, pack_width, pooling, rectifying>, from, windows, constants,
             grad_from, to);
    });
  });
}

}  // namespace pythermo::cuda
