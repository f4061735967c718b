#include "../lanes_winograd.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "aligned_vectors.hpp"

namespace pythermo::cpu {
namespace {

using lanes::ConvolutionShape;

// What a band is transformed to stays in the second cache.
constexpr std::size_t band_bytes = std::size_t{1} << 19;

// How many images and rows are worked on together.
struct BandSize {
  std::size_t images, rows;
};

// Images whose pieces, so many a row, fill most of the panels.
std::size_t images_to_fill_panels(std::size_t pieces) {
  const std::size_t panel = PYTHERMO_DISPATCH(isa::panel_size());
  const auto fill = [&](std::size_t images) {
    const std::size_t panels = (pieces * images + panel - 1) / panel;
    return static_cast<double>(pieces * images) / static_cast<double>(panels * panel);
  };
  std::size_t images = 1;
  while (fill(images) < 5. / 6) ++images;
  return images;
}

// A convolution, one way or the other, or the gradients of its weights.
template <class Row>
class Winograd {
 public:
  Winograd(const ConvolutionShape& shape, std::size_t from_channels, std::size_t to_channels)
      : images_(shape.images),
        from_{shape.height, shape.width, from_channels},
        to_{shape.height, shape.width, to_channels},
        pieces_((shape.width + Row::pixels - 1) / Row::pixels),
        size_(band_size()),
        from_memory_(Row::points * points_of(std::min(size_.rows + 2, shape.height), size_.images, from_)),
        to_memory_(Row::points * points_of(size_.rows, size_.images, to_)),
        weights_memory_(Row::points * 3 * weights()) {}

  void convolve(const float* images, const TapWeights& weights, float* output) {
    const Points right = points_of_weights();
    PYTHERMO_DISPATCH(isa::weights_to_points<Row>(weights, right));
    std::vector<PanelPlace> places(size_.images * pieces_);
    each_band([&](const Band& band) {
      const Band sources = with_neighbours(band);
      const Points left = points(from_memory_, sources, from_), to = points(to_memory_, band, to_);
      const std::size_t pieces = band.images * pieces_;
      const std::vector<ProductSum> sums = sums_of_rows(band, sources, left, right, to);
      PYTHERMO_DISPATCH(isa::place_left(pieces, from_.channels, places.data()));
      PYTHERMO_DISPATCH(isa::images_to_points<Row>(from_, sources, images, {left, places.data(), true}));
      PYTHERMO_DISPATCH(isa::multiply_points({.points = Row::points,
                                              .left_size = pieces,
                                              .right_size = to_.channels,
                                              .inner_size = from_.channels,
                                              .left = left,
                                              .right = right,
                                              .to = to,
                                              .begins = true,
                                              .sums = sums}));
      PYTHERMO_DISPATCH(isa::points_to_images<Row>(to, to_, band, output));
    });
  }

  void add_weight_gradients(const float* images, const float* grad, float* grad_weights) {
    const Points to = points_of_weights();
    std::vector<PanelPlace> from_places(from_.channels), to_places(to_.channels);
    bool begins = true;
    each_band([&](const Band& band) {
      const Band sources = with_neighbours(band);
      const Points left = points(from_memory_, sources, from_), right = points(to_memory_, band, to_);
      const std::size_t pieces = band.images * pieces_;
      const std::vector<ProductSum> sums = sums_of_taps(band, sources, left, right, to);
      PYTHERMO_DISPATCH(isa::place_left(from_.channels, pieces, from_places.data()));
      PYTHERMO_DISPATCH(isa::place_right(to_.channels, pieces, to_places.data()));
      PYTHERMO_DISPATCH(
          isa::images_to_points<Row>(from_, sources, images, {left, from_places.data(), false}));
      PYTHERMO_DISPATCH(isa::gradients_to_points<Row>(to_, band, grad, {right, to_places.data(), false}));
      PYTHERMO_DISPATCH(isa::multiply_points({.points = Row::points,
                                              .left_size = from_.channels,
                                              .right_size = to_.channels,
                                              .inner_size = pieces,
                                              .left = left,
                                              .right = right,
                                              .to = to,
                                              .begins = begins,
                                              .sums = sums}));
      begins = false;
    });
    if (!begins) PYTHERMO_DISPATCH(isa::points_to_weights<Row>(to, weights(), grad_weights));
  }

 private:
  // Each band goes through all transformed weights: it is at least half as large as they are.
  BandSize band_size() const {
    const std::size_t bytes = Row::points * lanes_of_members() * sizeof(float);
    const std::size_t most = std::max(band_bytes, 3 * weights() * bytes / 2);
    const std::size_t few = std::min(images_to_fill_panels(pieces_), std::max(images_, std::size_t{1}));
    const std::size_t of_row = bytes * pieces_ * (from_.channels + to_.channels);
    const std::size_t rows = std::max(most / (of_row * few), std::size_t{1});
    if (rows < to_.height) return {few, part_size(to_.height, rows)};
    return {part_size(images_, std::max(few, most / (of_row * to_.height))), to_.height};
  }

  template <class Call>
  void each_band(const Call& call) const {
    for (std::size_t image = 0; image < images_; image += size_.images) {
      for (std::size_t row = 0; row < to_.height; row += size_.rows) {
        call(Band{image, std::min(size_.images, images_ - image), row,
                  std::min(size_.rows, to_.height - row)});
      }
    }
  }

  // With the rows that taps bring to those of a band.
  Band with_neighbours(const Band& band) const {
    const std::size_t first = band.row - std::min(band.row, std::size_t{1});
    return {band.image, band.images, first, std::min(band.row + band.rows + 1, to_.height) - first};
  }

  // For each row of the output, the sums over rows of taps.
  std::vector<ProductSum> sums_of_rows(const Band& band, const Band& sources, const Points& left,
                                       const Points& right, const Points& to) const {
    std::vector<ProductSum> sums;
    for (std::size_t row = band.row; row < band.row + band.rows; ++row) {
      const std::size_t first = row == 0 ? 1 : 0, last = row + 1 == to_.height ? 1 : 2;
      sums.push_back({.left = (row + first - 1 - sources.row) * left.row_step,
                      .right = first * right.row_step,
                      .to = (row - band.row) * to.row_step,
                      .count = last - first + 1});
    }
    return sums;
  }

  // For each row of taps, the sums over rows of the output.
  std::vector<ProductSum> sums_of_taps(const Band& band, const Band& sources, const Points& left,
                                       const Points& right, const Points& to) const {
    std::vector<ProductSum> sums;
    for (std::size_t ky = 0; ky < 3; ++ky) {
      // To the first row the first taps bring none of the images, and the last none to the last.
      const std::size_t first = std::max(band.row, ky == 0 ? std::size_t{1} : std::size_t{0});
      const std::size_t end = std::min(band.row + band.rows, to_.height + 1 - ky);
      sums.push_back({.left = (first + ky - 1 - sources.row) * left.row_step,
                      .right = (first - band.row) * right.row_step,
                      .to = ky * to.row_step,
                      .count = std::max(first, end) - first});
    }
    return sums;
  }

  std::size_t weights() const { return from_.channels * to_.channels; }

  // One more than there are vectors, and odd where that is even: a pixel's points then lie in all sets of a
  // cache.
  std::size_t points_of(std::size_t rows, std::size_t images, const ImageSize& size) const {
    return rows * images * pieces_ * size.channels + 1;
  }

  Points points(const AlignedVectors& memory, const Band& band, const ImageSize& size) const {
    return {memory.data(), points_of(band.rows, band.images, size), band.images * pieces_ * size.channels};
  }

  Points points_of_weights() const { return {weights_memory_.data(), 3 * weights(), weights()}; }

  std::size_t images_;
  ImageSize from_, to_;
  std::size_t pieces_;  // of a row
  BandSize size_;
  AlignedVectors from_memory_, to_memory_, weights_memory_;
};

// Calls call(Winograd) with that for the width of the images.
template <class Call>
void choose(const ConvolutionShape& shape, std::size_t from_channels, std::size_t to_channels,
            const Call& call) {
  if (shape.width == Pairs::pixels) {
    call(Winograd<Pairs>(shape, from_channels, to_channels));
  } else {
    call(Winograd<Quads>(shape, from_channels, to_channels));
  }
}

}  // namespace

bool winograd_pays(const ConvolutionShape& s) {
  if (s.kernel != 3 || s.stride != 1 || s.padding != 1) return false;
  // Transforming takes time by the channels of both sides, which is gained by their product.
  if (s.channels * s.out_channels < 4 * (s.channels + s.out_channels)) return false;
  const std::size_t quads = (s.width + Quads::pixels - 1) / Quads::pixels;
  return s.width == Pairs::pixels || 4 * Quads::points * quads <= 3 * (3 * s.width - 2);
}

void winograd_convolution(const ConvolutionShape& s, const float* images, const float* weights,
                          float* output) {
  const TapWeights taps{weights,        static_cast<std::ptrdiff_t>(s.channels * s.out_channels),
                        s.channels,     s.out_channels,
                        s.out_channels, 1};
  choose(s, s.channels, s.out_channels, [&](auto winograd) { winograd.convolve(images, taps, output); });
}

void winograd_images_gradient(const ConvolutionShape& s, const float* grad, const float* weights,
                              float* grad_images) {
  // From the last tap to the first.
  const auto tap = static_cast<std::ptrdiff_t>(s.channels * s.out_channels);
  const float* const last = weights + (max_taps - 1) * s.channels * s.out_channels * lanes_of_members();
  const TapWeights taps{last, -tap, s.out_channels, s.channels, 1, s.out_channels};
  choose(s, s.out_channels, s.channels, [&](auto winograd) { winograd.convolve(grad, taps, grad_images); });
}

void winograd_weights_gradient(const ConvolutionShape& s, const float* images, const float* grad,
                               float* grad_weights) {
  choose(s, s.channels, s.out_channels,
         [&](auto winograd) { winograd.add_weight_gradients(images, grad, grad_weights); });
}

}  // namespace pythermo::cpu
