// Convolutions of members side by side against plain loops in double, on every instruction set, at the edges
// of tiles, strips, blocks and bands. Built with sanitizers: arrays are allocated to their exact size.
#include <cstdio>
#include <string>
#include <vector>

#include "instruction_sets.hpp"
#include "lanes_convolution.hpp"
#include "lanes_testing.hpp"

using namespace pythermo;

namespace {

struct Case {
  std::size_t images, height, width, channels, outputs, kernel, stride, padding;

  std::size_t out(std::size_t size) const { return (size + 2 * padding - kernel) / stride + 1; }
  std::string text() const {
    return std::to_string(images) + " images of " + std::to_string(height) + "x" + std::to_string(width) +
           "x" + std::to_string(channels) + " to " + std::to_string(outputs) + ", kernel " +
           std::to_string(kernel) + ", stride " + std::to_string(stride) + ", padding " +
           std::to_string(padding);
  }

  // Calls visit(image, y, x, c, out y, out x, o, ky, kx) for each product of a lane.
  template <class Visit>
  void each_product(const Visit& visit) const {
    for (std::size_t n = 0; n < images; ++n) {
      for (std::size_t oy = 0; oy < out(height); ++oy) {
        for (std::size_t ox = 0; ox < out(width); ++ox) {
          for (std::size_t ky = 0; ky < kernel; ++ky) {
            for (std::size_t kx = 0; kx < kernel; ++kx) {
              const std::size_t y = oy * stride + ky - padding, x = ox * stride + kx - padding;
              if (y >= height || x >= width) continue;  // below 0 it is beyond all sizes
              for (std::size_t c = 0; c < channels; ++c) {
                for (std::size_t o = 0; o < outputs; ++o) visit(n, y, x, c, oy, ox, o, ky, kx);
              }
            }
          }
        }
      }
    }
  }
};

void test_convolution(const Case& one, const std::string& where) {
  const auto size = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  const std::size_t lanes = cpu::lanes_of_members();
  Floats images =
      random_array({size(one.images), size(one.height), size(one.width), size(one.channels), size(lanes)}, 1);
  Floats weights = random_array(
      {size(one.kernel), size(one.kernel), size(one.channels), size(one.outputs), size(lanes)}, 2);
  Floats grad = random_array(
      {size(one.images), size(one.out(one.height)), size(one.out(one.width)), size(one.outputs), size(lanes)},
      3);
  Floats output(grad.shape), grad_images(images.shape), grad_weights = weights;
  std::vector<double> expected(output.values.size()), expected_images(images.values.size()),
      expected_weights(weights.values.begin(), weights.values.end());
  one.each_product([&](auto n, auto y, auto x, auto c, auto oy, auto ox, auto o, auto ky, auto kx) {
    for (std::size_t l = 0; l < lanes; ++l) {
      const std::size_t i = at(images, {n, y, x, c, l}), w = at(weights, {ky, kx, c, o, l}),
                        g = at(grad, {n, oy, ox, o, l});
      expected[g] += static_cast<double>(images.values[i]) * static_cast<double>(weights.values[w]);
      expected_images[i] += static_cast<double>(grad.values[g]) * static_cast<double>(weights.values[w]);
      expected_weights[w] += static_cast<double>(grad.values[g]) * static_cast<double>(images.values[i]);
    }
  });
  cpu::lanes_convolution(images.view("images"), weights.view("weights"), one.stride, one.padding,
                         output.view("output"));
  cpu::lanes_convolution_images_gradient(grad.view("grad"), weights.view("weights"), one.stride, one.padding,
                                         grad_images.view("grad_images"));
  cpu::lanes_convolution_weights_gradient(images.view("images"), grad.view("grad"), one.stride, one.padding,
                                          grad_weights.view("grad_weights"));
  // Up to some hundreds of products in float: 2^-24 each, of which most cancel.
  check(deviation(output.values, expected) < 2e-6, where + ": convolution, " + one.text());
  check(deviation(grad_images.values, expected_images) < 2e-6, where + ": images' gradient, " + one.text());
  check(deviation(grad_weights.values, expected_weights) < 5e-6,
        where + ": weights' gradient, " + one.text());
  // Image by image: the same bits.
  bool same = true;
  for (std::size_t i = 0; i < one.images; ++i) {
    Floats image = image_of(images, i), own_grad = image_of(grad, i);
    Floats found(image_of(output, i).shape), found_images(image.shape);
    cpu::lanes_convolution(image.view("images"), weights.view("weights"), one.stride, one.padding,
                           found.view("output"));
    cpu::lanes_convolution_images_gradient(own_grad.view("grad"), weights.view("weights"), one.stride,
                                           one.padding, found_images.view("grad_images"));
    same = same && found.values == image_of(output, i).values &&
           found_images.values == image_of(grad_images, i).values;
  }
  check(same, where + ": image by image, " + one.text());
}

// What the tolerance is worth: one product of the wrong tap is more than it allows.
void test_that_a_wrong_tap_is_seen(const Case& one, const std::string& where) {
  const auto outputs = static_cast<std::int64_t>(one.outputs);
  const auto lanes = static_cast<std::int64_t>(cpu::lanes_of_members());
  Floats images = random_array({3, 8, 8, 8, lanes}, 1), weights = random_array({3, 3, 8, outputs, lanes}, 2);
  Floats output({3, 8, 8, outputs, lanes});
  std::vector<double> wrong(output.values.size());
  one.each_product([&](auto n, auto y, auto x, auto c, auto oy, auto ox, auto o, auto ky, auto kx) {
    const bool planted = n == 1 && oy == 3 && ox == 7 && c == 7 && ky == 2 && kx == 0;
    for (std::size_t l = 0; l < static_cast<std::size_t>(lanes); ++l) {
      wrong[at(output, {n, oy, ox, o, l})] +=
          static_cast<double>(images.values[at(images, {n, y, x, c, l})]) *
          static_cast<double>(weights.values[at(weights, {ky, planted ? 1 : kx, c, o, l})]);
    }
  });
  cpu::lanes_convolution(images.view("images"), weights.view("weights"), 1, 1, output.view("output"));
  check(deviation(output.values, wrong) > 1e-3, where + ": a wrong tap is seen");
}

void test_convolutions(const std::string& where) {
  test_that_a_wrong_tap_is_seen({3, 8, 8, 8, 4, 3, 1, 1}, where);
  test_that_a_wrong_tap_is_seen({3, 8, 8, 8, 8, 3, 1, 1}, where);  // by Winograd's filtering
  for (const std::size_t channels : {1u, 2u, 3u, 4u, 5u, 8u, 9u}) {
    for (const std::size_t outputs : {1u, 2u, 3u, 4u, 6u}) {
      test_convolution({3, 5, 6, channels, outputs, 3, 1, 1}, where);
    }
  }
  // Three blocks of channels and tiles of outputs; more images than are packed at once.
  test_convolution({2, 3, 16, 17, 9, 3, 1, 1}, where);
  test_convolution({4, 7, 7, 17, 9, 3, 1, 1}, where);
  test_convolution({43, 2, 3, 9, 5, 3, 1, 1}, where);
  for (const std::size_t side : {1u, 2u, 3u, 4u, 7u, 8u, 13u}) {
    for (const std::size_t images : {1u, 3u, 4u, 22u}) {
      test_convolution({images, side, side + 1, 2, 5, 3, 1, 1}, where);
      test_convolution({images, side + 1, side, 5, 2, 3, 2, 1}, where);
      test_convolution({images, side, side, 3, 4, 1, 2, 0}, where);
      test_convolution({images, side, side, 3, 4, 1, 1, 0}, where);
    }
  }
  test_convolution({2, 6, 5, 3, 3, 3, 1, 2}, where);
  test_convolution({2, 6, 7, 3, 3, 3, 2, 0}, where);
  test_convolution({5, 4, 3, 3, 3, 3, 1, 0}, where);
  test_convolution({1, 2, 70, 2, 2, 3, 1, 1}, where);
}

// By Winograd's filtering: rows of pairs and of quads, whole and hanging over, in one band and in several.
void test_winograd(const std::string& where) {
  for (const std::size_t width : {2u, 4u, 6u, 7u, 8u, 11u, 13u}) {
    for (const std::size_t height : {1u, 2u, 5u}) {
      for (const std::size_t images : {1u, 3u, 8u}) {
        test_convolution({images, height, width, 8, 8, 3, 1, 1}, where);
      }
    }
    test_convolution({2, 4, width, 9, 11, 3, 1, 1}, where);
    test_convolution({2, 3, width, 17, 6, 3, 1, 1}, where);
  }
  test_convolution({2, 33, 28, 8, 9, 3, 1, 1}, where);
  test_convolution({40, 4, 4, 8, 16, 3, 1, 1}, where);
}

}  // namespace

int main() {
  on_each_instruction_set([](const std::string& where) {
    test_convolutions(where);
    test_winograd(where);
  });
  if (failures == 0) std::printf("lanes, convolutions: all checks hold\n");
  return failures == 0 ? 0 : 1;
}
