// SGD steps on the sphere, on threads and vectors.
#pragma once

#include <cstddef>

#include "../tensor_view.hpp"

namespace pythermo::cpu {

// Each moves `weights` in place. A zero gradient leaves them as they are. Throws std::invalid_argument,
// with the weights untouched, for a gradient that is not finite, for weights that are all zero, and for a
// step that ends in the centre; also for weights that are not finite, which may have changed where they are
// very many. The same bits for any number of threads.
void projected_sgd_step(const TensorView& weights, const TensorView& grad, double lr, double radius,
                        int threads);
void exponential_sgd_step(const TensorView& weights, const TensorView& grad, double lr, double radius,
                          int threads);

}  // namespace pythermo::cpu
