// What the CUDA runtime finds on this machine.
#pragma once

#include <string>

namespace pythermo::cuda {

// "available: NAME, compute capability 9.0" or "not available: REASON"; never throws.
std::string describe_device();

}  // namespace pythermo::cuda
