#include "../lanes_head.hpp"

#include <algorithm>
#include <vector>

#include "../lanes_convolution.hpp"
#include "sized.hpp"

namespace pythermo::cpu {
void lanes_head(const TensorView& features, const TensorView& weights, const TensorView& bias,
                const TensorView& labels, bool largest, bool squared_error, const TensorView& losses,
                const TensorView& hits, const TensorView& grad) {
  const auto x = features.sizes(4), w = weights.sizes(2);
  const std::size_t lanes = lanes_of_members();
  require(x[3] == lanes, features, "must have the members of one vector in its last dimension");
  require(x[0] > 0 && x[1] > 0 && x[2] > 0, features, "must have images, pixels and features");
  require(w[1] == x[2], weights, "must have the number of features");
  require(w[0] > 0, weights, "must have classes");
  const lanes::Head head{x[0],
                         x[1],
                         x[2],
                         w[0],
                         largest ? lanes::Pooling::largest : lanes::Pooling::mean,
                         squared_error ? lanes::HeadLoss::squared_error : lanes::HeadLoss::cross_entropy};
  require(labels.sizes(2) == std::vector<std::size_t>{x[0], lanes}, labels,
          "must be one for each image and member");
  const std::int64_t* const own = labels.array<std::int64_t>();
  require(
      std::all_of(own, own + x[0] * lanes,
                  [&](std::int64_t label) { return label >= 0 && label < static_cast<std::int64_t>(w[0]); }),
      labels, "must be from 0 to below the number of classes");
  float* const gradient = optional<float>(grad, x[0] * x[1] * x[2] * lanes);
  const HeadArrays arrays{features.array<float>(),
                          weights.array<float>(),
                          optional<float>(bias, w[0]),
                          own,
                          sized<double>(losses, lanes),
                          sized<std::int64_t>(hits, lanes),
                          gradient};
  std::fill_n(arrays.losses, lanes, 0.0);
  std::fill_n(arrays.hits, lanes, std::int64_t{0});
  std::vector<float> scratch((head.features + 2 * head.classes) * lanes);
  PYTHERMO_DISPATCH(isa::add_head_losses(head, arrays, scratch.data()));
  for (std::size_t l = 0; l < lanes; ++l) arrays.losses[l] /= static_cast<double>(head.images);
}

}  // namespace pythermo::cpu
