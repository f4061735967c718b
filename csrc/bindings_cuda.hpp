// The CUDA kernels as a submodule of a Python module, which the tests' emulation has too.
#pragma once

#include <pybind11/pybind11.h>

namespace pythermo {

void bind_cuda(pybind11::module_& module);

}  // namespace pythermo
