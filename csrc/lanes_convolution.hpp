// Convolutions of members side by side: in each lane of a vector the images, weights and gradients of one
// network. Every operation is vertical, so that no lane knows of the others.
//
// Images lie as [N, H, W, C, lanes], weights as [kernel, kernel, C, O, lanes]; lanes are the numbers in a
// register of the chosen instruction set.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"
#include "tensor_view.hpp"

namespace pythermo::lanes {

// Of one convolution, whose images have a border of `padding` zeros.
struct ConvolutionShape {
  std::size_t images, height, width, channels;      // of what it is applied to
  std::size_t out_height, out_width, out_channels;  // of what it gives
  std::size_t kernel, stride, padding;
};

// Along one axis: the place of the images that tap `k` brings to place `at` of the output; on the border
// where it is negative, or not below the size.
inline std::ptrdiff_t source_of_output(const ConvolutionShape& shape, std::size_t at, std::size_t k) {
  return static_cast<std::ptrdiff_t>(at * shape.stride + k) - static_cast<std::ptrdiff_t>(shape.padding);
}

}  // namespace pythermo::lanes

// The loops, built for each instruction set.
namespace pythermo::cpu {

struct ImageSize {
  std::size_t height, width, channels;

  std::size_t vectors() const { return height * width * channels; }
};

// The size of as few parts as there can be, of at most so many, which are alike.
inline std::size_t part_size(std::size_t count, std::size_t most) {
  const std::size_t parts = std::max((count + most - 1) / most, std::size_t{1});
  return std::max((count + parts - 1) / parts, std::size_t{1});
}

// Channels of the images that products are summed up for together, and taps at most. With so few channels,
// taps side by side are, whose weights' gradients share what is loaded.
constexpr std::size_t block_channels = 8, max_taps = 9, taps_together_channels = 2;

// How images are packed: by blocks of channels, one block after the other, in each of which the channels of a
// pixel lie side by side. So what is gone through together lies together: apart by powers of two, as the
// channels of many pixels are, it would push itself out of the first cache. Steps are in pixels of a block.
struct Packing {
  std::size_t height, width, channels, block;  // channels of a block
  std::size_t before, after;                   // pixels of zeros that each row gets
  std::size_t image_step, row_step, pixel_step;
  std::size_t block_size;  // in vectors
};

// One tap of a run: how far from the run's begin its vectors lie, and its number, [kernel * kernel].
struct TapOffset {
  std::ptrdiff_t offset;  // in vectors
  std::size_t tap;
};

// Pixels of a row that the same taps go to, at equal steps.
struct TapRun {
  std::size_t to;  // the first pixel, in vectors
  std::size_t pixels;
  const TapOffset* taps;
  std::size_t tap_count;
};

// What pixels of `to` sum up over taps and the channels of packed images.
struct TapSum {
  const TapRun* runs;
  std::size_t run_count;
  std::size_t images;
  bool by_image;                     // the first pixels of runs are added up in several images together
  std::size_t from_image, to_image;  // from image to image, in vectors
  std::size_t from_step, to_step;    // from pixel to pixel of those that are added up together, in vectors
  std::size_t block_size;            // of packed images, in vectors
  std::size_t from_channels, to_channels, taps;
  const float* weights;
  std::size_t from_stride, to_stride;  // of the weights, from channel to channel, in vectors
};

// What packed images and gradients of the output add to the gradients of weights.
struct GradSum {
  const lanes::ConvolutionShape& shape;
  Packing images, grads;
  std::size_t rows;  // that are gone through for each pair of blocks
  std::size_t images_count;
  bool by_image;       // packed so
  bool taps_together;  // then each row has a border
};

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  std::size_t member_lanes();
  void pack_images(const Packing& packing, std::size_t images, const float* from, float* to);
  void sum_taps(const TapSum& sum, const float* from, float* to);
  // Channels of the output that gradients of weights are summed up for together.
  std::size_t output_block();
  void sum_weight_gradients(const GradSum& sum, const float* images, const float* grad, float* grad_weights);
)
// clang-format on

}  // namespace pythermo::cpu

// The whole kernel on the CPU. Each throws std::invalid_argument for sizes that do not fit. A member's bits
// depend on the instruction set, and on nothing but what lies in its lane.
namespace pythermo::cpu {

// Numbers in a register of the chosen instruction set: members that lie side by side.
std::size_t lanes_of_members();

// Writes output [N, h, w, O, lanes].
void lanes_convolution(const TensorView& images, const TensorView& weights, std::size_t stride,
                       std::size_t padding, const TensorView& output);

// Writes the gradients of the images from those of the output.
void lanes_convolution_images_gradient(const TensorView& grad, const TensorView& weights, std::size_t stride,
                                       std::size_t padding, const TensorView& grad_images);

// Adds the gradients of the weights to grad_weights.
void lanes_convolution_weights_gradient(const TensorView& images, const TensorView& grad, std::size_t stride,
                                        std::size_t padding, const TensorView& grad_weights);

}  // namespace pythermo::cpu

// The whole kernel on a CUDA device, on a stream and without a wait. Images are [groups, N, H, W, C, 32]
// there, weights [groups, kernel, kernel, C, O, 32]; a member's bits depend on nothing but what lies in its
// lane.
namespace pythermo::cuda {

void lanes_convolution(const TensorView& images, const TensorView& weights, std::size_t stride,
                       std::size_t padding, const TensorView& output, std::uintptr_t stream);
void lanes_convolution_images_gradient(const TensorView& grad, const TensorView& weights, std::size_t stride,
                                       std::size_t padding, const TensorView& grad_images,
                                       std::uintptr_t stream);

// How many float64 numbers of workspace the gradient of the weights needs, of one stream at a time.
std::size_t lanes_weights_gradient_workspace_size(const TensorView& images, const TensorView& grad,
                                                  std::size_t stride, std::size_t padding,
                                                  const TensorView& grad_weights);
void lanes_convolution_weights_gradient(const TensorView& images, const TensorView& grad, std::size_t stride,
                                        std::size_t padding, const TensorView& grad_weights,
                                        const TensorView& workspace, std::uintptr_t stream);

}  // namespace pythermo::cuda
