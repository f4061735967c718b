// Checks of arguments that kernels of both kinds of device make.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <vector>

namespace pythermo {

inline void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

// Numbers of neighbors among so many points.
inline void require_ks(const std::vector<std::size_t>& ks, std::size_t points) {
  require(!ks.empty() && ks.front() >= 1 && ks.back() < points, "ks: must be from 1 to n - 1");
  require(std::is_sorted(ks.begin(), ks.end(), std::less_equal<>()), "ks: must ascend strictly");
}

}  // namespace pythermo
