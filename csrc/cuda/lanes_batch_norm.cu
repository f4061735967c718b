#include <algorithm>

#include "../lanes_batch_norm.hpp"
#include "lanes.cuh"
#include "normalization.cuh"

namespace pythermo::cuda {
namespace {

using batch_norm::Moments;

// A thread sums so many pixels in float, and no more than `split_pixels` to a part.
constexpr unsigned run = 64, split_pixels = 1024, most_splits = 256;

unsigned splits_of(std::size_t pixels) {
  return static_cast<unsigned>(
      std::clamp<std::size_t>(quotient_up(pixels, std::size_t{split_pixels}), 1, most_splits));
}

// Numbers of the members of a channel, [groups, count, C, 32].
PYTHERMO_INLINE std::size_t of_channel(const LaneImages& images, std::size_t group, unsigned count,
                                       unsigned which, std::size_t channel_and_lane) {
  return (group * count + which) * images.pixel_size() + channel_and_lane;
}

struct MomentPair {
  LaneImages x, batch;
  __device__ __forceinline__ void add(std::size_t at, std::size_t of_pixel, std::size_t group, float& sum,
                                      float& square) const {
    const float apart = x.data[at] - batch.data[group * batch.group_size() + of_pixel];
    sum += apart;
    square += apart * apart;
  }
};

template <bool rectify>
struct GradientPair {
  LaneImages output, grad;
  __device__ __forceinline__ void add(std::size_t at, std::size_t, std::size_t, float& sum,
                                      float& product) const {
    const float y = output.data[at], own = grad.data[at], passed = rectify && !(y > 0.0f) ? 0.0f : own;
    sum += passed;
    product += passed * y;
  }
};

// Adds up a pair of numbers of each pixel: a warp for a channel's members, over a part of the pixels. Leaves
// parts [splits, groups, 2, C, 32].
template <class Pair>
__global__ void __launch_bounds__(lane_threads)
    add_pairs_kernel(const LaneImages images, const Pair pair, unsigned splits, double* parts) {
  const unsigned channel_blocks = quotient_up(images.channels, lane_warps);
  const unsigned channel = blockIdx.x % channel_blocks * lane_warps + threadIdx.x / warp_threads;
  const unsigned split = blockIdx.x / channel_blocks % splits, group = blockIdx.x / channel_blocks / splits;
  if (channel >= images.channels) return;
  const std::size_t pixels = images.count * images.pixels(), of_pixel = channel * member_lanes + lane_index();
  const std::size_t each = quotient_up(pixels, std::size_t{splits}), begin = split * each;
  const std::size_t end = begin + each < pixels ? begin + each : pixels;
  const std::size_t base = group * images.group_size() + of_pixel;
  double sums = 0.0, others = 0.0;
  for (std::size_t first = begin; first < end; first += run) {
    const std::size_t last = first + run < end ? first + run : end;
    float sum = 0.0f, other = 0.0f;
#pragma unroll 8
    for (std::size_t p = first; p < last; ++p) {
      pair.add(base + p * images.pixel_size(), of_pixel, group, sum, other);
    }
    sums += static_cast<double>(sum);
    others += static_cast<double>(other);
  }
  double* const own = parts + std::size_t{split} * images.groups * 2 * images.pixel_size();
  own[of_channel(images, group, 2, 0, of_pixel)] = sums;
  own[of_channel(images, group, 2, 1, of_pixel)] = others;
}

__global__ void __launch_bounds__(lane_threads)
    add_moments_kernel(const double* parts, std::size_t part_count, std::size_t size, double* sums) {
  const std::size_t at = thread_of_grid();
  if (at < size) sums[at] += sum_of_parts(parts, part_count, size, at);
}

template <class Pair>
void add_pairs(const LaneImages& images, const Pair& pair, const TensorView& sums,
               const TensorView& workspace, std::uintptr_t stream) {
  const auto on_stream = reinterpret_cast<cudaStream_t>(stream);
  const unsigned splits = splits_of(images.count * images.pixels());
  const std::size_t size = images.groups * 2 * images.pixel_size();
  double* const total = device_array<double>(sums, size);
  double* const parts = device_array<double>(workspace, splits * size);
  const std::size_t blocks = std::size_t{quotient_up(images.channels, lane_warps)} * splits * images.groups;
  launch({"add_pairs", blocks, lane_threads}, on_stream, &add_pairs_kernel<Pair>, images, pair, splits,
         parts);
  launch(one_thread_each("add_moments", size), on_stream, &add_moments_kernel, parts, std::size_t{splits},
         size, total);
}

// A thread for each group, channel and lane.
struct ChannelPlace {
  std::size_t group, of_pixel;
  bool there;

  __device__ __forceinline__ explicit ChannelPlace(const LaneImages& batch)
      : group(thread_of_grid() / batch.pixel_size()),
        of_pixel(thread_of_grid() % batch.pixel_size()),
        there(group < batch.groups) {}
};

__global__ void __launch_bounds__(lane_threads)
    statistics_kernel(const double* sums, const LaneImages batch, double eps, float* constants) {
  const ChannelPlace at(batch);
  if (!at.there) return;
  const auto place = [&](unsigned count, unsigned which) {
    return of_channel(batch, at.group, count, which, at.of_pixel);
  };
  const double count = static_cast<double>(batch.count * batch.pixels());
  const Moments moments{sums[place(2, 0)], sums[place(2, 1)]};
  const double shift = static_cast<double>(batch.data[at.group * batch.group_size() + at.of_pixel]);
  constants[place(4, 0)] = static_cast<float>(moments.mean(shift, count));
  constants[place(4, 1)] = static_cast<float>(moments.scale(count, eps));
}

__global__ void __launch_bounds__(lane_threads)
    gradient_statistics_kernel(const double* sums, const LaneImages batch, float* constants) {
  const ChannelPlace at(batch);
  if (!at.there) return;
  const double count = static_cast<double>(batch.count * batch.pixels());
  for (unsigned which = 0; which < 2; ++which) {
    const double sum = sums[of_channel(batch, at.group, 2, which, at.of_pixel)];
    constants[of_channel(batch, at.group, 4, 2 + which, at.of_pixel)] = static_cast<float>(sum / count);
  }
}

NormalizedImages<float> to_normalize(const LaneImages& images) {
  return {images.data,   images.groups, images.count,
          images.height, images.width,  static_cast<unsigned>(images.pixel_size())};
}

LaneImages pooled_of(const TensorView& view, const LaneImages& x, std::size_t pool) {
  const LaneImages pooled = lane_images(view);
  require(pooled.groups == x.groups && pooled.count == x.count && pooled.height == x.height / pool &&
              pooled.width == x.width / pool && pooled.channels == x.channels,
          view, "must have the size of the pooled images");
  return pooled;
}

float* constants_of(const TensorView& view, const LaneImages& x) {
  return device_array<float>(view, x.groups * 4 * x.pixel_size());
}

}  // namespace

std::size_t lanes_moments_workspace_size(const TensorView& x) {
  const LaneImages images = lane_images(x);
  return splits_of(images.count * images.pixels()) * images.groups * 2 * images.pixel_size();
}

void lanes_moments(const TensorView& x, const TensorView& batch, const TensorView& sums,
                   const TensorView& workspace, std::uintptr_t stream) {
  const LaneImages images = lane_images(x), all = lane_images(batch);
  require(all.channels == images.channels && all.groups == images.groups, batch,
          "must have the groups and channels of x");
  add_pairs(images, MomentPair{images, all}, sums, workspace, stream);
}

void lanes_statistics(const TensorView& sums, const TensorView& batch, double eps,
                      const TensorView& constants, std::uintptr_t stream) {
  const LaneImages all = lane_images(batch);
  launch(one_thread_each("statistics", all.groups * all.pixel_size()), reinterpret_cast<cudaStream_t>(stream),
         &statistics_kernel, device_array<double>(sums, all.groups * 2 * all.pixel_size()), all, eps,
         constants_of(constants, all));
}

void lanes_normalization(const TensorView& x, std::size_t pool, bool rectify, const TensorView& constants,
                         const TensorView& output, std::uintptr_t stream) {
  const LaneImages images = lane_images(x);
  batch_norm::with_pooling(pool, rectify, [&](auto pooling, auto rectifying) {
    const auto from = to_normalize(images), to = to_normalize(pooled_of(output, images, pool));
    const Windows windows(to, 1, piece_members);
    launch(windows.shape("normalization"), reinterpret_cast<cudaStream_t>(stream),
           &normalization_kernel<float, piece_members, pooling, rectifying>, from, windows,
           constants_of(constants, images), to);
  });
}

void lanes_gradient_moments(const TensorView& output, bool rectify, const TensorView& grad,
                            const TensorView& sums, const TensorView& workspace, std::uintptr_t stream) {
  const LaneImages outputs = lane_images(output), grads = pooled_of(grad, outputs, 1);
  if (rectify) {
    add_pairs(outputs, GradientPair<true>{outputs, grads}, sums, workspace, stream);
  } else {
    add_pairs(outputs, GradientPair<false>{outputs, grads}, sums, workspace, stream);
  }
}

void lanes_gradient_statistics(const TensorView& sums, const TensorView& batch, const TensorView& constants,
                               std::uintptr_t stream) {
  const LaneImages all = lane_images(batch);
  launch(one_thread_each("gradient_statistics", all.groups * all.pixel_size()),
         reinterpret_cast<cudaStream_t>(stream), &gradient_statistics_kernel,
         device_array<double>(sums, all.groups * 2 * all.pixel_size()), all, constants_of(constants, all));
}

void lanes_normalization_backward(const TensorView& x, std::size_t pool, bool rectify,
                                  const TensorView& constants, const TensorView& grad,
                                  const TensorView& grad_x, std::uintptr_t stream) {
  const LaneImages images = lane_images(x);
  batch_norm::with_pooling(pool, rectify, [&](auto pooling, auto rectifying) {
    const auto from = to_normalize(images);
    const Windows windows(from, pooling, piece_members);
    launch(windows.shape("normalization_backward"), reinterpret_cast<cudaStream_t>(stream),
           &normalization_backward_kernel<float, piece_members, pooling, rectifying>, from, windows,
           constants_of(constants, images), to_normalize(pooled_of(grad, images, pool)),
           to_normalize(pooled_of(grad_x, images, 1)));
  });
}

}  // namespace pythermo::cuda
