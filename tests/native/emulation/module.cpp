// The CUDA kernels on the CPU, for the Python tests.
#include <pybind11/pybind11.h>

#include "bindings_cuda.hpp"
#include "emulation.hpp"

PYBIND11_MODULE(pythermo_emulated, module) {
  pythermo::bind_cuda(module);
  module.def("set_schedule", &emulation::set_schedule, pybind11::arg("schedule"));
}
