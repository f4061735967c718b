#include "../lanes_head.hpp"

#include "../elementary.hpp"
#include "lanes.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

constexpr std::size_t lanes = register_lanes<float>;
using Integers = Vector<std::int32_t, lanes>;

PYTHERMO_INLINE Members every(float value) { return Members{} + value; }

// One image's features [pixels, F, lanes] pooled.
void pool(const lanes::Head& head, const float* features, float* pooled) {
  for (std::size_t f = 0; f < head.features; ++f) {
    Members value = load_members(features + f * lanes);
    for (std::size_t p = 1; p < head.pixels; ++p) {
      const Members other = load_members(features + (p * head.features + f) * lanes);
      if (head.pooling == lanes::Pooling::mean) {
        value += other;
      } else {
        value = other > value ? other : value;
      }
    }
    if (head.pooling == lanes::Pooling::mean) value = value / static_cast<float>(head.pixels);
    store(value, pooled + f * lanes);
  }
}

void find_logits(const lanes::Head& head, const HeadArrays& a, const float* pooled, float* logits) {
  for (std::size_t k = 0; k < head.classes; ++k) {
    const float* const weights = a.weights + k * head.features;
    Members even = every(a.bias == nullptr ? 0.0f : a.bias[k]), odd{};
    std::size_t f = 0;
    for (; f + 2 <= head.features; f += 2) {
      even += load_members(pooled + f * lanes) * weights[f];
      odd += load_members(pooled + (f + 1) * lanes) * weights[f + 1];
    }
    if (f < head.features) even += load_members(pooled + f * lanes) * weights[f];
    store(even + odd, logits + k * lanes);
  }
}

PYTHERMO_INLINE Integers label_of(const std::int64_t* labels) {
  return __builtin_convertvector(load<lanes>(labels), Integers);
}

// Adds the loss of one image, and replaces its logits by their gradients.
void add_loss(const lanes::Head& head, const HeadArrays& a, Integers label, float* logits) {
  const float share = 1.0f / static_cast<float>(head.images);
  Members largest = load_members(logits), own{}, sum{};
  Integers predicted{};
  for (std::size_t k = 1; k < head.classes; ++k) {
    const Members value = load_members(logits + k * lanes);
    predicted = value > largest ? Integers{} + static_cast<std::int32_t>(k) : predicted;
    largest = value > largest ? value : largest;
  }
  const auto is_label = [label](std::size_t k) { return label == static_cast<std::int32_t>(k); };
  if (head.loss == lanes::HeadLoss::squared_error) {
    for (std::size_t k = 0; k < head.classes; ++k) {
      const Members apart = load_members(logits + k * lanes) - (is_label(k) ? every(1.0f) : Members{});
      sum += apart * apart;
      store(apart * (2.0f * share), logits + k * lanes);
    }
    for (std::size_t l = 0; l < lanes; ++l) a.losses[l] += static_cast<double>(sum[l]);
  } else {
    for (std::size_t k = 0; k < head.classes; ++k) {
      const Members apart = load_members(logits + k * lanes) - largest;
      own = is_label(k) ? apart : own;
      const Members value = exponential_of_negative<Members, Integers>(apart);
      sum += value;
      store(value, logits + k * lanes);
    }
    for (std::size_t k = 0; k < head.classes; ++k) {
      const Members probability = load_members(logits + k * lanes) / sum;
      store((probability - (is_label(k) ? every(1.0f) : Members{})) * share, logits + k * lanes);
    }
    for (std::size_t l = 0; l < lanes; ++l) {
      a.losses[l] += logarithm(static_cast<double>(sum[l])) - static_cast<double>(own[l]);
    }
  }
  for (std::size_t l = 0; l < lanes; ++l) a.hits[l] += predicted[l] == label[l] ? 1 : 0;
}

// The gradients of one image's features from those of its logits.
void write_gradient(const lanes::Head& head, const HeadArrays& a, const float* features,
                    const float* logit_grads, float* grad) {
  for (std::size_t f = 0; f < head.features; ++f) {
    Members pooled_grad{};
    for (std::size_t k = 0; k < head.classes; ++k) {
      pooled_grad += load_members(logit_grads + k * lanes) * a.weights[k * head.features + f];
    }
    if (head.pooling == lanes::Pooling::mean) {
      pooled_grad = pooled_grad / static_cast<float>(head.pixels);
      for (std::size_t p = 0; p < head.pixels; ++p)
        store(pooled_grad, grad + (p * head.features + f) * lanes);
      continue;
    }
    Members largest = load_members(features + f * lanes);
    for (std::size_t p = 1; p < head.pixels; ++p) {
      const Members other = load_members(features + (p * head.features + f) * lanes);
      largest = other > largest ? other : largest;
    }
    for (std::size_t p = 0; p < head.pixels; ++p) {
      const std::size_t i = (p * head.features + f) * lanes;
      const auto first = load_members(features + i) == largest;
      store(first ? pooled_grad : Members{}, grad + i);
      pooled_grad = first ? Members{} : pooled_grad;
    }
  }
}

}  // namespace

void add_head_losses(const lanes::Head& head, const HeadArrays& a, float* scratch) {
  float *const pooled = scratch, *const logits = scratch + head.features * lanes;
  const std::size_t size = head.pixels * head.features * lanes;
  for (std::size_t image = 0; image < head.images; ++image) {
    const float* const features = a.features + image * size;
    pool(head, features, pooled);
    find_logits(head, a, pooled, logits);
    add_loss(head, a, label_of(a.labels + image * lanes), logits);
    if (a.grad != nullptr) write_gradient(head, a, features, logits, a.grad + image * size);
  }
}

}  // namespace pythermo::cpu::PYTHERMO_ISA
