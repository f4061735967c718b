// The shapes of convolutions of members, and how their pixels are divided into tiles.
#pragma once

#include <type_traits>

#include "lanes.cuh"

namespace pythermo::cuda {

// Sides of images are below this.
constexpr unsigned longest_side = 1u << 14;

// The arrays of one convolution, whose sizes fit.
struct LaneConvolution {
  LaneImages images, output;
  StridedView<float> weights;  // by groups, which may be apart
  unsigned taps, stride, padding;

  LaneConvolution(const TensorView& images_view, const TensorView& weights_view,
                  const TensorView& output_view, std::size_t own_stride, std::size_t own_padding)
      : images(lane_images(images_view)), output(lane_images(output_view)) {
    const auto w = weights_view.sizes(6);
    require(w[5] == member_lanes, weights_view, "must have 32 members in its last dimension");
    require(w[0] == images.groups, weights_view, "must have the groups of the images");
    require(w[1] == w[2] && (w[1] == 1 || w[1] == 3), weights_view, "must have 1 x 1 or 3 x 3 taps");
    require(w[3] == images.channels, weights_view, "must have the channels of the images");
    require(w[4] == output.channels, output_view, "must have the channels of the weights");
    require(output.groups == images.groups, output_view, "must have the groups of the images");
    require(output.count == images.count, output_view, "must have the number of images");
    require(images.height < longest_side && images.width < longest_side, images_view,
            "must have sides below 16384 pixels");
    require(own_stride == 1 || own_stride == 2, weights_view, "the stride must be 1 or 2");
    require(own_padding < w[1], weights_view, "the padding must be less than the taps of a side");
    weights = weights_view.contiguous_each_on<float>(device_type);
    taps = static_cast<unsigned>(w[1]);
    stride = static_cast<unsigned>(own_stride);
    padding = static_cast<unsigned>(own_padding);
    require(output.height == out(images.height) && output.width == out(images.width), output_view,
            "must have the convolution's size");
  }

 private:
  unsigned out(unsigned size) const {
    return size + 2 * padding < taps ? 0 : (size + 2 * padding - taps) / stride + 1;
  }
};

// Tiles of rows x columns pixels, image by image; those at the end of a side are smaller.
template <class Tile>
class TileGrid {
 public:
  struct Place {
    unsigned image, row, column;  // of the first pixel
  };

  PYTHERMO_INLINE explicit TileGrid(const LaneImages& images)
      : count_(images.count), height_(images.height), width_(images.width) {}

  PYTHERMO_INLINE unsigned tiles_of_image() const {
    return quotient_up(height_, Tile::rows) * quotient_up(width_, Tile::columns);
  }
  PYTHERMO_INLINE unsigned tiles() const { return count_ * tiles_of_image(); }
  PYTHERMO_INLINE Place tile(unsigned number) const {
    const unsigned across = quotient_up(width_, Tile::columns), image = number / tiles_of_image();
    const unsigned own = number - image * tiles_of_image();
    return {image, own / across * Tile::rows, own % across * Tile::columns};
  }
  PYTHERMO_INLINE unsigned rows_of(const Place& tile) const { return height_ - tile.row; }
  PYTHERMO_INLINE unsigned columns_of(const Place& tile) const { return width_ - tile.column; }

 private:
  unsigned count_, height_, width_;
};

template <unsigned value>
using Constant = std::integral_constant<unsigned, value>;

template <class Body>
void with_taps(unsigned taps, const Body& body) {
  taps == 1 ? body(Constant<1>()) : body(Constant<3>());
}

template <class Body>
void with_stride(unsigned stride, const Body& body) {
  stride == 1 ? body(Constant<1>()) : body(Constant<2>());
}

// Calls body with the rows and columns of the tiles that waste least of the images' pixels, of those whose
// shared_bytes(rows, columns) a block of this device may have.
template <unsigned stride, class SharedBytes, class Body>
void with_pixels(const LaneImages& images, const SharedBytes& shared_bytes, const Body& body) {
  const std::size_t most = most_shared_bytes();
  const auto covered = [&](auto rows, auto columns) {
    if (shared_bytes(rows, columns) > most) return std::size_t(-1);
    return std::size_t{quotient_up(images.height, +rows) * rows} * quotient_up(images.width, +columns) *
           columns;
  };
  // A tile of 2 x 2 pixels loads more for each product, here counted as two pixels for one; it fits
  // everywhere.
  const std::size_t small = 2 * covered(Constant<2>(), Constant<2>()),
                    square = covered(Constant<4>(), Constant<4>());
  if constexpr (stride == 1) {
    const std::size_t wide = covered(Constant<2>(), Constant<7>());
    if (wide < square && wide <= small) return body(Constant<2>(), Constant<7>());
  }
  small < square ? body(Constant<2>(), Constant<2>()) : body(Constant<4>(), Constant<4>());
}

}  // namespace pythermo::cuda
