#include "../lanes_step.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "../lanes_convolution.hpp"
#include "sized.hpp"

namespace pythermo::cpu {
namespace {

bool all_zero(const float* values, std::size_t size, std::size_t lanes, std::size_t lane) {
  for (std::size_t d = 0; d < size; ++d) {
    if (values[d * lanes + lane] != 0.0f) return false;
  }
  return true;
}

template <class Retraction>
void step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
          const TensorView& parameter, const TensorView& status) {
  const auto sizes = weights.sizes(2);
  const std::size_t size = sizes[0], members = lanes_of_members();
  require(sizes[1] == members, weights, "must have the members of one vector in its last dimension");
  require(grad.sizes(2) == sizes, grad, "must have the shape of weights");
  float* const w = weights.array<float>();
  const float* const g = grad.array<float>();
  const double* const rates = sized<double>(lr, members);
  const double* const parameters = sized<double>(parameter, members);
  std::int64_t* const said = sized<std::int64_t>(status, members);
  std::vector<double> narrow(members), sums(Retraction::sum_count * members);
  for (std::size_t l = 0; l < members; ++l) narrow[l] = static_cast<double>(static_cast<float>(rates[l]));
  PYTHERMO_DISPATCH(isa::member_sums<Retraction>(w, g, size, narrow.data(), sums.data()));
  std::vector<float> first(members), second(members);
  std::vector<std::int32_t> moves(members);
  for (std::size_t l = 0; l < members; ++l) {
    double own[Retraction::sum_count];
    for (int k = 0; k < Retraction::sum_count; ++k) own[k] = sums[static_cast<std::size_t>(k) * members + l];
    const lanes::MemberStep one = lanes::member_step<Retraction>(
        own, rates[l], parameters[l],
        [&](bool of_weights) { return all_zero(of_weights ? w : g, size, members, l); });
    said[l] = static_cast<std::int64_t>(one.error);
    moves[l] = one.moves ? -1 : 0;
    first[l] = one.first;
    second[l] = one.second;
  }
  PYTHERMO_DISPATCH(isa::update_members<Retraction>(w, g, size, first.data(), second.data(), moves.data()));
}

}  // namespace

void lanes_projected_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& radius, const TensorView& status) {
  step<Projection>(weights, grad, lr, radius, status);
}

void lanes_exponential_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                            const TensorView& radius, const TensorView& status) {
  step<Exponential>(weights, grad, lr, radius, status);
}

void lanes_fixed_lr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                         const TensorView& weight_decay, const TensorView& status) {
  step<WeightDecay<protocols::FixedLr>>(weights, grad, lr, weight_decay, status);
}

void lanes_fixed_elr_step(const TensorView& weights, const TensorView& grad, const TensorView& lr,
                          const TensorView& weight_decay, const TensorView& status) {
  step<WeightDecay<protocols::FixedElr>>(weights, grad, lr, weight_decay, status);
}

void lanes_products(const TensorView& weights, const TensorView& grad, const TensorView& products) {
  const auto sizes = weights.sizes(2);
  const std::size_t members = lanes_of_members();
  require(sizes[1] == members, weights, "must have the members of one vector in its last dimension");
  require(grad.sizes(2) == sizes, grad, "must have the shape of weights");
  const std::vector<double> no_rate(members);
  PYTHERMO_DISPATCH(isa::member_sums<Exponential>(weights.array<float>(), grad.array<float>(), sizes[0],
                                                  no_rate.data(),
                                                  sized<double>(products, Exponential::sum_count * members)));
}

void lanes_gather(const TensorView& samples, const TensorView& indices, const TensorView& out) {
  const auto data = samples.sizes(2), drawn = indices.sizes(2);
  const std::size_t lanes = lanes_of_members();
  require(drawn[0] == lanes, indices, "must be of as many members as a vector has");
  require(out.sizes(3) == std::vector<std::size_t>{drawn[1], data[1], lanes}, out, "must hold what is drawn");
  const std::int64_t* const index = indices.array<std::int64_t>();
  require(std::all_of(index, index + lanes * drawn[1],
                      [&](std::int64_t i) { return i >= 0 && i < static_cast<std::int64_t>(data[0]); }),
          indices, "must be from 0 to below the number of samples");
  PYTHERMO_DISPATCH(
      isa::gather_members(samples.array<float>(), data[1], index, drawn[1], drawn[1], out.array<float>()));
}

}  // namespace pythermo::cpu
