// The CUDA kernels on the CPU, for the Python tests.
#include "bindings_kernels.hpp"
#include "emulation.hpp"

PYBIND11_MODULE(pythermo_emulated, module) {
  pythermo::bind_cuda_kernels(module);
  module.def("set_schedule", &emulation::set_schedule, pybind11::arg("schedule"));
  module.def("set_most_shared_bytes", &emulation::set_most_shared_bytes, pybind11::arg("bytes"));
  module.def("set_single_to_double_ratio", &emulation::set_single_to_double_ratio, pybind11::arg("ratio"));
}
