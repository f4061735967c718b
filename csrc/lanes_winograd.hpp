// Convolutions of members side by side by Winograd's minimal filtering along the rows of images.
//
// Pixels and weights of a row are transformed to points, at each of which products are summed up over
// channels and rows of taps; and the sums are transformed back. Down the columns as well it would take fewer
// products still, but what is transformed would no longer stay in the second cache.
#pragma once

#include <cstddef>
#include <span>

#include "cpu/instruction_set.hpp"
#include "lanes_convolution.hpp"

namespace pythermo::cpu {

// Rows in pieces of 4 pixels, the last of which may hang over, by F(4, 3) (Winograd, 1980; Lavin and Gray,
// 2016): 6 products for 12. The points are values of polynomials at 0, +-3/4, +-3/2 and infinity, with which
// the rounding errors are less than twice those of sums over taps.
struct Quads {
  static constexpr std::size_t pixels = 4, points = 6;
};

// Rows of 2 pixels, with zeros beside: 3 products for 4.
struct Pairs {
  static constexpr std::size_t pixels = 2, points = 3;
};

// Rows of some images, of each the same.
struct Band {
  std::size_t image, images, row, rows;
};

// What is transformed: a matrix for each point and row, of pieces and channels. Steps are in vectors.
struct Points {
  float* vectors;
  std::size_t point_step, row_step;
};

// The matrices lie in panels: what a tile of sums takes at once lies side by side. Of the pieces of all
// images of a band, or of the channels, each has its place in a panel, at which its vectors follow each other
// at equal steps.
struct PanelPlace {
  std::size_t first, step;
};
struct Panels {
  Points points;
  const PanelPlace* places;
  bool of_pieces;
};

// Weights of taps from one side's channels to the other's. Steps are in vectors.
struct TapWeights {
  const float* first;
  std::ptrdiff_t tap_step;
  std::size_t from, to, from_step, to_step;
};

// Products of matrices that are added up: where the first of them begin, in vectors, and how many there are.
struct ProductSum {
  std::size_t left, right, to, count;
};

// At each point, to[p, q] is, or gains, the sum of left[k, p] * right[k, q] over k and over rows.
struct PointProducts {
  std::size_t points, left_size, right_size, inner_size;  // how many p, q and k
  Points left, right;                                     // in panels
  Points to;
  bool begins;
  std::span<const ProductSum> sums;
};

// clang-format off
PYTHERMO_FOR_EACH_ISA(
  // Vectors in a panel of the left matrix, at most.
  std::size_t panel_size();
  // Write the places of `count` indices, whose vectors are so many each.
  void place_left(std::size_t count, std::size_t vectors, PanelPlace* places);
  void place_right(std::size_t count, std::size_t vectors, PanelPlace* places);

  template <class Row>
  void images_to_points(const ImageSize& size, const Band& band, const float* images, const Panels& panels);
  template <class Row>
  void gradients_to_points(const ImageSize& size, const Band& band, const float* grad, const Panels& panels);
  // A right matrix for each point and row of taps.
  template <class Row>
  void weights_to_points(const TapWeights& weights, const Points& points);
  void multiply_points(const PointProducts& products);
  // Sums are [points, rows, pieces, channels, lanes].
  template <class Row>
  void points_to_images(const Points& sums, const ImageSize& size, const Band& band, float* images);
  // Adds sums [points, 3, count, lanes] to the gradients [3, 3, count, lanes] of weights.
  template <class Row>
  void points_to_weights(const Points& sums, std::size_t count, float* grad_weights);
)
// clang-format on

// Whether it takes less time than sums over taps.
bool winograd_pays(const lanes::ConvolutionShape& shape);

// As the kernels of lanes_convolution.hpp, for shapes for which it pays.
void winograd_convolution(const lanes::ConvolutionShape& shape, const float* images, const float* weights,
                          float* output);
void winograd_images_gradient(const lanes::ConvolutionShape& shape, const float* grad, const float* weights,
                              float* grad_images);
void winograd_weights_gradient(const lanes::ConvolutionShape& shape, const float* images, const float* grad,
                               float* grad_weights);

}  // namespace pythermo::cpu
