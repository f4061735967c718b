// Normalization, head, steps and sums of members side by side against plain loops in double, on every
// instruction set. Built with sanitizers: arrays are allocated to their exact size.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "instruction_sets.hpp"
#include "lanes_batch_norm.hpp"
#include "lanes_convolution.hpp"
#include "lanes_gradient_sums.hpp"
#include "lanes_head.hpp"
#include "lanes_step.hpp"
#include "lanes_testing.hpp"

using namespace pythermo;

namespace {

// Each lane of the batch normalization is that of batch_norm_relu in double.
void test_batch_norm(std::size_t images, std::size_t height, std::size_t width, std::size_t channels,
                     std::size_t pool, bool rectify, const std::string& where) {
  const auto size = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  const std::size_t lanes = cpu::lanes_of_members(), all = channels * lanes;
  Floats x = random_array({size(images), size(height), size(width), size(channels), size(lanes)}, 4);
  Floats grad =
      random_array({size(images), size(height / pool), size(width / pool), size(channels), size(lanes)}, 5);
  Floats output(grad.shape), grad_x(x.shape), constants({size(4 * all)});
  Array<double> sums({size(2 * all)}), grad_sums({size(2 * all)});
  const auto both_ways = [&](Floats& target) {
    cpu::lanes_moments(x.view("x"), x.view("batch"), sums.view("sums"));
    cpu::lanes_statistics(sums.view("sums"), x.view("batch"), 1e-12, constants.view("constants"));
    cpu::lanes_normalization(x.view("x"), pool, rectify, constants.view("constants"), output.view("output"));
    cpu::lanes_gradient_moments(output.view("output"), rectify, grad.view("grad"), grad_sums.view("sums"));
    cpu::lanes_gradient_statistics(grad_sums.view("sums"), x.view("batch"), constants.view("constants"));
    cpu::lanes_normalization_backward(target.view("x"), pool, rectify, constants.view("constants"),
                                      grad.view("grad"), target.view("grad_x"));
  };
  Floats in_place = x;
  both_ways(in_place);
  cpu::lanes_normalization_backward(x.view("x"), pool, rectify, constants.view("constants"),
                                    grad.view("grad"), grad_x.view("grad_x"));
  // Image by image: the same bits.
  Array<double> parts({size(2 * all)}), grad_parts({size(2 * all)});
  bool same = true;
  for (std::size_t i = 0; i < images; ++i) {
    Floats one = image_of(x, i), one_output = image_of(output, i), one_grad = image_of(grad, i);
    Floats found(one_output.shape), found_grad(one.shape);
    cpu::lanes_moments(one.view("x"), x.view("batch"), parts.view("sums"));
    cpu::lanes_normalization(one.view("x"), pool, rectify, constants.view("constants"), found.view("output"));
    cpu::lanes_gradient_moments(one_output.view("output"), rectify, one_grad.view("grad"),
                                grad_parts.view("sums"));
    cpu::lanes_normalization_backward(one.view("x"), pool, rectify, constants.view("constants"),
                                      one_grad.view("grad"), found_grad.view("grad_x"));
    same = same && found.values == one_output.values && found_grad.values == image_of(grad_x, i).values;
  }
  same = same && parts.values == sums.values && grad_parts.values == grad_sums.values;
  Array<double> plain({size(images), size(height * width), size(all)}),
      plain_out({size(images), size(height / pool * (width / pool)), size(all)}),
      plain_statistics({size(2 * all)}), plain_grad(plain_out.shape), plain_grad_x(plain.shape);
  std::copy(x.values.begin(), x.values.end(), plain.values.begin());
  std::copy(grad.values.begin(), grad.values.end(), plain_grad.values.begin());
  cpu::batch_norm_relu(plain.view("x"), width, pool, rectify, 1e-12, plain_out.view("output"),
                       plain_statistics.view("statistics"), 1);
  cpu::batch_norm_relu_backward(plain.view("x"), width, pool, rectify, plain_out.view("output"),
                                plain_statistics.view("statistics"), plain_grad.view("grad"),
                                plain_grad_x.view("grad_x"), 1);
  const std::string what = where + ": normalization, pool " + std::to_string(pool) + ", " +
                           std::to_string(height) + "x" + std::to_string(width) + "x" +
                           std::to_string(channels);
  check(deviation(output.values, plain_out.values) < 1e-6, what);
  check(deviation(grad_x.values, plain_grad_x.values) < 1e-5, what + ", gradient");
  check(grad_x.values == in_place.values, what + ", gradient in the place of the images");
  check(same, what + ", image by image");
}

void test_head(std::size_t pixels, std::size_t features, std::size_t classes, bool largest, bool squared,
               const std::string& where) {
  const auto size = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  const std::size_t lanes = cpu::lanes_of_members(), images = 5;
  Floats x = random_array({size(images), size(pixels), size(features), size(lanes)}, 6);
  Floats head = random_array({size(classes), size(features)}, 7), bias = random_array({size(classes)}, 8);
  Array<std::int64_t> labels({size(images), size(lanes)}), hits({size(lanes)});
  for (std::size_t i = 0; i < labels.values.size(); ++i)
    labels.values[i] = static_cast<std::int64_t>(i * 7 % classes);
  Array<double> losses({size(lanes)});
  Floats grad({size(x.values.size())});
  cpu::lanes_head(x.view("features"), head.view("weights"), bias.view("bias"), labels.view("labels"), largest,
                  squared, losses.view("losses"), hits.view("hits"), grad.view("grad"));
  std::vector<double> expected(x.values.size());
  std::vector<double> expected_losses(lanes);
  std::vector<std::int64_t> expected_hits(lanes);
  for (std::size_t n = 0; n < images; ++n) {
    for (std::size_t l = 0; l < lanes; ++l) {
      std::vector<double> pooled(features), logits(classes), grads(classes);
      std::vector<std::size_t> best(features);
      for (std::size_t f = 0; f < features; ++f) {
        for (std::size_t p = 0; p < pixels; ++p) {
          const double value = x.values[at(x, {n, p, f, l})];
          if (value > static_cast<double>(x.values[at(x, {n, best[f], f, l})])) best[f] = p;
          pooled[f] += value / static_cast<double>(pixels);
        }
        if (largest) pooled[f] = x.values[at(x, {n, best[f], f, l})];
      }
      for (std::size_t k = 0; k < classes; ++k) {
        logits[k] = bias.values[k];
        for (std::size_t f = 0; f < features; ++f) {
          logits[k] += static_cast<double>(head.values[k * features + f]) * pooled[f];
        }
      }
      const auto label = static_cast<std::size_t>(labels.values[n * lanes + l]);
      const double top = *std::max_element(logits.begin(), logits.end());
      double sum = 0.0;
      for (const double logit : logits) sum += std::exp(logit - top);
      for (std::size_t k = 0; k < classes; ++k) {
        const double target = k == label ? 1.0 : 0.0;
        grads[k] = squared ? 2.0 * (logits[k] - target) : std::exp(logits[k] - top) / sum - target;
        if (squared) expected_losses[l] += (logits[k] - target) * (logits[k] - target) / images;
      }
      if (!squared) expected_losses[l] += (std::log(sum) + top - logits[label]) / images;
      expected_hits[l] += logits[label] == top ? 1 : 0;
      for (std::size_t f = 0; f < features; ++f) {
        double own = 0.0;
        for (std::size_t k = 0; k < classes; ++k) {
          own += grads[k] * static_cast<double>(head.values[k * features + f]) / images;
        }
        for (std::size_t p = 0; p < pixels; ++p) {
          if (!largest || p == best[f]) {
            expected[at(x, {n, p, f, l})] = largest ? own : own / static_cast<double>(pixels);
          }
        }
      }
    }
  }
  const std::string what = where + ": head, " + std::to_string(pixels) + " pixels, " +
                           std::to_string(features) + " features, " + std::to_string(classes) + " classes" +
                           (squared ? ", squared" : "");
  check(deviation(grad.values, expected) < 2e-6, what);
  check(hits.values == expected_hits, what + ", hits");
  for (std::size_t l = 0; l < lanes; ++l) {
    check(std::fabs(losses.values[l] - expected_losses[l]) < 2e-6 * (1.0 + expected_losses[l]),
          what + ", loss");
  }
}

enum class StepOf { projection, exponential, fixed_lr, fixed_elr };

template <class Step>
void test_step(const Step& step, StepOf kind, std::size_t dim, const std::string& where) {
  const bool on_sphere = kind == StepOf::projection || kind == StepOf::exponential;
  const auto size = [](std::size_t value) { return static_cast<std::int64_t>(value); };
  const std::size_t lanes = cpu::lanes_of_members();
  Floats weights = random_array({size(dim), size(lanes)}, 9),
         grad = random_array({size(dim), size(lanes)}, 10);
  Array<double> lr({size(lanes)}), parameter({size(lanes)});
  Array<std::int64_t> status({size(lanes)});
  for (std::size_t l = 0; l < lanes; ++l) parameter.values[l] = on_sphere ? 2.0 : 0.3;
  const double least = kind == StepOf::fixed_elr ? 0.01 / static_cast<double>(dim) : 0.01;  // times |w|^2
  for (std::size_t l = 0; l < lanes; ++l) lr.values[l] = least * static_cast<double>(l + 1);
  const auto value = [&](const Floats& array, std::size_t d, std::size_t l) {
    return static_cast<double>(array.values[d * lanes + l]);
  };
  std::vector<double> expected(weights.values.size());
  for (std::size_t l = 0; l < lanes; ++l) {
    double ww = 0.0, gg = 0.0, wg = 0.0, vv = 0.0;
    for (std::size_t d = 0; d < dim; ++d) {
      const double w = value(weights, d, l), g = value(grad, d, l), v = w - lr.values[l] * g;
      ww += w * w, gg += g * g, wg += w * g, vv += v * v;
    }
    const double tangent = std::sqrt(std::max(gg - wg * wg / ww, 0.0)), angle = lr.values[l] * tangent / 2.0;
    for (std::size_t d = 0; d < dim; ++d) {
      const double w = value(weights, d, l), g = value(grad, d, l), t = g - wg / ww * w;
      const double along = tangent > 0.0 ? std::sin(angle) * t / tangent : 0.0;
      const double eta = kind == StepOf::fixed_elr ? lr.values[l] * ww : lr.values[l];
      expected[d * lanes + l] = kind == StepOf::exponential
                                    ? 2.0 * (std::cos(angle) * w / std::sqrt(ww) - along)
                                : kind == StepOf::projection ? 2.0 * (w - lr.values[l] * g) / std::sqrt(vv)
                                                             : w - eta * (g + 0.3 * w);
    }
  }
  Floats before = weights;
  step(weights, grad, lr, parameter, status);
  const std::string what = where + ": step of " + std::to_string(dim);
  check(deviation(weights.values, expected) < 4e-7, what);
  Array<double> products({3 * size(lanes)});
  cpu::lanes_products(before.view("weights"), grad.view("grad"), products.view("products"));
  for (std::size_t l = 0; l < lanes; ++l) {
    double ww = 0.0, gg = 0.0, wg = 0.0;
    for (std::size_t d = 0; d < dim; ++d) {
      const double w = value(before, d, l), g = value(grad, d, l);
      ww += w * w, gg += g * g, wg += w * g;
    }
    check(std::fabs(products.values[l] - ww) <= 1e-12 * ww &&
              std::fabs(products.values[lanes + l] - gg) <= 1e-12 * gg &&
              std::fabs(products.values[2 * lanes + l] - wg) <= 1e-12 * std::sqrt(ww * gg),
          what + ": products");
  }
  check(std::all_of(status.values.begin(), status.values.end(), [](std::int64_t code) { return code == 0; }),
        what);

  // A member that fails stays, and so does one that has no gradient or no learning rate; the others move.
  Floats again = before;
  grad.values[1] = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t d = 0; d < dim; ++d) grad.values[d * lanes + 2] = 0.0f;
  lr.values[3] = 0.0;
  parameter.values[0] = std::numeric_limits<double>::infinity();
  step(again, grad, lr, parameter, status);
  for (std::size_t d = 0; d < dim; ++d) {
    for (std::size_t l = 0; l < lanes; ++l) {
      if (l == 2 && !on_sphere) continue;  // which decays
      const Floats& as = l <= 3 ? before : weights;
      check(again.values[d * lanes + l] == as.values[d * lanes + l], what + ": member " + std::to_string(l));
    }
  }
  check(status.values[1] == static_cast<std::int64_t>(StepError::not_finite) && status.values[2] == 0 &&
            status.values[3] == 0 && status.values[0] == static_cast<std::int64_t>(StepError::parameter),
        what + ": the status");
}

void test_gradient_sums(const std::string& where) {
  const auto lanes = static_cast<std::int64_t>(cpu::lanes_of_members());
  Floats grad = random_array({31, lanes}, 12);
  Array<double> center({31 * lanes}), total({31 * lanes}), sums({2 * lanes}), none({0}), alone({2 * lanes});
  for (std::size_t i = 0; i < center.values.size(); ++i) center.values[i] = 0.1 * static_cast<double>(i % 7);
  total.values = center.values;
  cpu::lanes_gradient_sums(grad.view("grad"), center.view("center"), total.view("total"), sums.view("sums"));
  cpu::lanes_gradient_sums(grad.view("grad"), none.view("center"), none.view("total"), alone.view("sums"));
  const auto count = static_cast<std::size_t>(lanes);
  for (std::size_t l = 0; l < count; ++l) {
    double squared = 0.0, distance = 0.0;
    for (std::size_t d = 0; d < 31; ++d) {
      const double g = grad.values[d * count + l], c = center.values[d * count + l];
      squared += g * g, distance += (g - c) * (g - c);
      check(total.values[d * count + l] == g + c, where + ": the total of gradients");
    }
    check(std::fabs(sums.values[l] / squared - 1.0) < 1e-14 && alone.values[count + l] == sums.values[l],
          where + ": squared gradients");
    check(std::fabs(sums.values[count + l] / distance - 1.0) < 1e-14, where + ": distances of gradients");
  }
}

void test_gather(const std::string& where) {
  const std::size_t lanes = cpu::lanes_of_members();
  Floats samples = random_array({5, 3}, 11), out({2, 3, static_cast<std::int64_t>(lanes)});
  Array<std::int64_t> indices({static_cast<std::int64_t>(lanes), 2});
  for (std::size_t i = 0; i < indices.values.size(); ++i)
    indices.values[i] = static_cast<std::int64_t>(i * 3 % 5);
  cpu::lanes_gather(samples.view("samples"), indices.view("indices"), out.view("out"));
  for (std::size_t l = 0; l < lanes; ++l) {
    for (std::size_t i = 0; i < 2; ++i) {
      for (std::size_t e = 0; e < 3; ++e) {
        const auto sample = static_cast<std::size_t>(indices.values[l * 2 + i]);
        check(out.values[(i * 3 + e) * lanes + l] == samples.values[sample * 3 + e], where + ": gather");
      }
    }
  }
  indices.values[0] = 5;
  bool refused = false;
  try {
    cpu::lanes_gather(samples.view("samples"), indices.view("indices"), out.view("out"));
  } catch (const std::invalid_argument& error) {
    refused = std::string(error.what()).find("indices") != std::string::npos;
  }
  check(refused, where + ": an index that is no sample's is refused");
}

}  // namespace

int main() {
  on_each_instruction_set([](const std::string& where) {
    for (const std::size_t pool : {1u, 2u}) {
      for (const bool rectify : {true, false}) {
        for (const std::size_t channels : {1u, 2u, 3u, 4u, 7u}) {
          test_batch_norm(3, 5, 4, channels, pool, rectify, where);
          test_batch_norm(2, 9, 17, channels, pool, rectify, where);
        }
      }
    }
    for (const bool largest : {true, false}) {
      for (const bool squared : {true, false}) {
        test_head(1, 16, 10, largest, squared, where);
        test_head(4, 3, 2, largest, squared, where);
        test_head(7, 1, 1, largest, squared, where);
      }
    }
    for (const std::size_t dim : {2u, 31u, 1530u}) {
      const auto test = [&](auto kernel, StepOf kind) {
        test_step(
            [&](Floats& w, Floats& g, Array<double>& lr, Array<double>& parameter,
                Array<std::int64_t>& status) {
              kernel(w.view("weights"), g.view("grad"), lr.view("lr"), parameter.view("parameter"),
                     status.view("status"));
            },
            kind, dim, where);
      };
      test(cpu::lanes_projected_step, StepOf::projection);
      test(cpu::lanes_exponential_step, StepOf::exponential);
      test(cpu::lanes_fixed_lr_step, StepOf::fixed_lr);
      test(cpu::lanes_fixed_elr_step, StepOf::fixed_elr);
    }
    test_gradient_sums(where);
    test_gather(where);
  });
  if (failures == 0) std::printf("lanes: all checks hold\n");
  return failures == 0 ? 0 : 1;
}
