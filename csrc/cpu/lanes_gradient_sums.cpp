#include "../lanes_gradient_sums.hpp"

#include <stdexcept>
#include <string>

#include "../lanes_convolution.hpp"
#include "sized.hpp"

namespace pythermo::cpu {

void lanes_gradient_sums(const TensorView& grad, const TensorView& center, const TensorView& total,
                         const TensorView& sums) {
  const auto sizes = grad.sizes(2);
  const std::size_t lanes = lanes_of_members();
  if (sizes[1] != lanes) {
    throw std::invalid_argument("grad: must have the members of one vector in its last dimension");
  }
  double* const both = sized<double>(sums, 2 * lanes);
  const MemberSums arrays{grad.array<float>(), optional<double>(center, sizes[0] * lanes),
                          optional<double>(total, sizes[0] * lanes), both, both + lanes};
  PYTHERMO_DISPATCH(isa::add_gradient_sums(arrays, sizes[0]));
}

}  // namespace pythermo::cpu
