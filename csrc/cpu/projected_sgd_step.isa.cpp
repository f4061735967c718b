#include <cstdint>
#include <cstring>
#include <type_traits>

#include "projected_sgd_step_loops.hpp"

namespace pythermo::cpu::PYTHERMO_ISA {
namespace {

// The same number of lanes for every instruction set, so that sums have the same bits on each.
constexpr std::size_t lanes = 32;

// At most this many elements are added up in one lane before it goes over into double: in float the
// relative error of a sum of squares stays below 32 * 2^-24 = 2e-6, and is 1e-8 typically.
constexpr std::size_t run = lanes * 32;

// The bits of a number: zero, but for the sign, if and only if the number is zero.
template <class T>
auto bits_of(T value) {
  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t> bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

template <class Retraction, class T, class Lane>
struct LaneSums {
  using Bits = decltype(bits_of(T{}));

  Lane sums[Retraction::sum_count][lanes] = {};
  Bits weight_bits[lanes] = {}, grad_bits[lanes] = {};

  inline void add(std::size_t lane, T w, T g, Lane lr) {
    Lane terms[Retraction::sum_count] = {};
    Retraction::template accumulate<Lane>(w, g, lr, terms);
    for (int k = 0; k < Retraction::sum_count; ++k) sums[k][lane] += terms[k];
    weight_bits[lane] |= bits_of(w);
    grad_bits[lane] |= bits_of(g);
  }

  void flush_into(BlockSums& block) {
    for (int k = 0; k < Retraction::sum_count; ++k) {
      double wide[lanes];
      for (std::size_t l = 0; l < lanes; ++l) wide[l] = sums[k][l];
      for (std::size_t half = lanes / 2; half > 0; half /= 2) {
        for (std::size_t l = 0; l < half; ++l) wide[l] += wide[l + half];
      }
      block.sums[k] += wide[0];
    }
    Bits any_weight = 0, any_grad = 0;
    for (std::size_t l = 0; l < lanes; ++l) {
      any_weight |= weight_bits[l];
      any_grad |= grad_bits[l];
    }
    block.weights_nonzero |= (any_weight << 1) != 0;  // the sign bit does not count
    block.grad_nonzero |= (any_grad << 1) != 0;
  }
};

}  // namespace

template <class Retraction, class T, class Lane>
BlockSums sum_block(const T* weights, const T* grad, std::size_t size, double lr) {
  const Lane lane_lr = static_cast<Lane>(static_cast<T>(lr));
  BlockSums block{};
  for (std::size_t start = 0; start < size; start += run) {
    const std::size_t stop = start + run < size ? start + run : size;
    const std::size_t whole = start + (stop - start) / lanes * lanes;
    LaneSums<Retraction, T, Lane> partial;
    for (std::size_t i = start; i < whole; i += lanes) {
      for (std::size_t l = 0; l < lanes; ++l) partial.add(l, weights[i + l], grad[i + l], lane_lr);
    }
    for (std::size_t i = whole; i < stop; ++i) partial.add(i - whole, weights[i], grad[i], lane_lr);
    partial.flush_into(block);
  }
  return block;
}

template <class Update, class T>
void update_block(T* weights, const T* grad, std::size_t size, const Update& update) {
  const Update local = update;
  for (std::size_t i = 0; i < size; ++i) weights[i] = local(weights[i], grad[i]);
}

#define PYTHERMO_INSTANTIATE(Retraction)                                                                    \
  template BlockSums sum_block<Retraction, float, float>(const float*, const float*, std::size_t, double);  \
  template BlockSums sum_block<Retraction, float, double>(const float*, const float*, std::size_t, double); \
  template BlockSums sum_block<Retraction, double, double>(const double*, const double*, std::size_t,       \
                                                           double);                                         \
  template void update_block(float*, const float*, std::size_t, const Retraction::Update<float>&);          \
  template void update_block(double*, const double*, std::size_t, const Retraction::Update<double>&);

PYTHERMO_INSTANTIATE(Projection)
PYTHERMO_INSTANTIATE(Exponential)

}  // namespace pythermo::cpu::PYTHERMO_ISA
