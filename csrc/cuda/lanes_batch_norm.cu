#include <algorithm>
#include <type_traits>

#include "../lanes_batch_norm.hpp"
#include "lanes.cuh"

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

// Four members' numbers of a pixel's channel.
using Piece = float4;

template <class Each>
__device__ __forceinline__ Piece each_of(const Each& each) {
  return {each(0), each(1), each(2), each(3)};
}
__device__ __forceinline__ float at(const Piece& piece, int i) { return (&piece.x)[i]; }

// Windows of pixels, those that are cut off at the ends of sides too; each image has blocks of its own.
struct Windows {
  unsigned images, rows, columns, pieces;  // images: of all groups; pieces: of a pixel

  Windows(const LaneImages& x, unsigned pool)
      : images(x.groups * x.count),
        rows(quotient_up(x.height, pool)),
        columns(quotient_up(x.width, pool)),
        pieces(x.channels * line_pieces) {}

  PYTHERMO_INLINE unsigned of_image() const { return rows * columns * pieces; }
  PYTHERMO_INLINE unsigned blocks_of_image() const { return quotient_up(of_image(), lane_threads); }

  LaunchShape shape(const char* kernel) const {
    return {kernel, std::size_t{images} * blocks_of_image(), lane_threads};
  }
};

// Which pixels a thread works on, and the constants of their channel: four members of a window.
struct PieceOfPixel {
  unsigned image, row, column, of_pixel;  // image: counted through all groups
  bool there;
  Piece constants[4];

  __device__ __forceinline__ PieceOfPixel(const LaneImages& x, const Windows& windows, const float* all,
                                          unsigned constant_count) {
    const unsigned blocks = windows.blocks_of_image();
    image = blockIdx.x / blocks;
    const unsigned thread = blockIdx.x % blocks * lane_threads + threadIdx.x;
    there = thread < windows.of_image();
    const unsigned pixel = thread / windows.pieces;
    of_pixel = thread % windows.pieces * piece_members;
    row = pixel / windows.columns;
    column = pixel % windows.columns;
    for (unsigned k = 0; k < constant_count; ++k) {
      constants[k] = *reinterpret_cast<const Piece*>(all + of_channel(x, image / x.count, 4, k, of_pixel));
    }
  }

  __device__ __forceinline__ Piece* pixel(const LaneImages& images, unsigned y, unsigned x) const {
    const std::size_t number = (std::size_t{image} * images.height + y) * images.width + x;
    return reinterpret_cast<Piece*>(images.data + number * images.pixel_size() + of_pixel);
  }
};

template <unsigned pool, bool rectify>
__global__ void __launch_bounds__(lane_threads)
    normalization_kernel(const LaneImages x, const Windows windows, const float* constants,
                         const LaneImages output) {
  const PieceOfPixel own(x, windows, constants, 2);
  if (!own.there) return;
  Piece largest = *own.pixel(x, own.row * pool, own.column * pool);
  if constexpr (pool == 2) {
    for (unsigned k = 1; k < 4; ++k) {
      const Piece other = *own.pixel(x, own.row * 2 + k / 2, own.column * 2 + k % 2);
      largest = each_of([&](int i) { return at(other, i) > at(largest, i) ? at(other, i) : at(largest, i); });
    }
  }
  *own.pixel(output, own.row, own.column) = each_of([&](int i) {
    const float value =
        batch_norm::normalized(at(largest, i), at(own.constants[0], i), at(own.constants[1], i));
    return rectify ? batch_norm::relu(value) : value;
  });
}

template <unsigned pool, bool rectify>
__global__ void __launch_bounds__(lane_threads)
    normalization_backward_kernel(const LaneImages x, const Windows windows, const float* constants,
                                  const LaneImages grad, const LaneImages grad_x) {
  const PieceOfPixel own(x, windows, constants, 4);
  if (!own.there) return;
  const auto write = [&](unsigned y, unsigned c, const Piece& value, const Piece& routed) {
    *own.pixel(grad_x, y, c) = each_of([&](int i) {
      const float scale = at(own.constants[1], i);
      const float normalized = batch_norm::normalized(at(value, i), at(own.constants[0], i), scale);
      const float passed = rectify && !(normalized > 0.0f) ? 0.0f : at(routed, i);
      return batch_norm::input_gradient(passed, normalized, scale, at(own.constants[2], i),
                                        at(own.constants[3], i));
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
      if (row < x.height && column < x.width) write(row, column, *own.pixel(x, row, column), Piece{});
    }
    return;
  }
  Piece values[4], left = *own.pixel(grad, own.row, own.column);
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) values[k] = *own.pixel(x, y + k / 2, c + k % 2);
  Piece largest = values[0];
#pragma unroll
  for (const Piece& value : values) {
    largest = each_of([&](int i) { return at(value, i) > at(largest, i) ? at(value, i) : at(largest, i); });
  }
  // To the first of the largest.
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) {
    const auto is_largest = [&](int i) { return at(values[k], i) == at(largest, i); };
    write(y + k / 2, c + k % 2, values[k],
          each_of([&](int i) { return is_largest(i) ? at(left, i) : 0.0f; }));
    left = each_of([&](int i) { return is_largest(i) ? 0.0f : at(left, i); });
  }
}

// Calls body with the pooling and whether to rectify as types.
template <class Body>
void choose(std::size_t pool, bool rectify, const Body& body) {
  if (pool != 1 && pool != 2) throw std::invalid_argument("pool: must be 1 or 2");
  const auto with_pool = [&](auto pooling) {
    rectify ? body(pooling, std::true_type()) : body(pooling, std::false_type());
  };
  pool == 1 ? with_pool(std::integral_constant<unsigned, 1>())
            : with_pool(std::integral_constant<unsigned, 2>());
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
  choose(pool, rectify, [&](auto pooling, auto rectifying) {
    const LaneImages pooled = pooled_of(output, images, pool);
    const Windows windows(pooled, 1);
    launch(windows.shape("normalization"), reinterpret_cast<cudaStream_t>(stream),
           &normalization_kernel<pooling, rectifying>, images, windows, constants_of(constants, images),
           pooled);
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
  choose(pool, rectify, [&](auto pooling, auto rectifying) {
    const Windows windows(images, pooling);
    launch(windows.shape("normalization_backward"), reinterpret_cast<cudaStream_t>(stream),
           &normalization_backward_kernel<pooling, rectifying>, images, windows,
           constants_of(constants, images), pooled_of(grad, images, pool), pooled_of(grad_x, images, 1));
  });
}

}  // namespace pythermo::cuda
