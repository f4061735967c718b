// The Python module pythermo._core. Only the bindings know Python.
#include <string>
#include <vector>

#include "bindings_kernels.hpp"
#include "cpu/instruction_set.hpp"
#if defined(PYTHERMO_CUDA)
#include "cuda/device.hpp"
#endif

namespace py = pybind11;
using namespace pythermo;

namespace {

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const auto set : cpu::built_instruction_sets()) names.emplace_back(cpu::name_of(set));
  return names;
}

std::string cuda_description() {
#if defined(PYTHERMO_CUDA)
  return "built, " + cuda::describe_device();
#else
  return "not built";
#endif
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "Native kernels of pythermo over DLPack capsules; used through pythermo.ops.";
  module.attr("version") = PYTHERMO_VERSION;
  module.attr("compiler") = PYTHERMO_COMPILER;
  module.def("instruction_sets", &instruction_sets);
  module.def("chosen_instruction_set",
             [] { return std::string(cpu::name_of(cpu::chosen_instruction_set())); });
  module.def("choose_instruction_set", &cpu::choose_instruction_set, py::arg("name"));
  module.def("cuda_description", &cuda_description);
  bind_cpu_kernels(module);
#if defined(PYTHERMO_CUDA)
  py::module_ cuda = module.def_submodule("cuda", "The kernels on CUDA devices.");
  bind_cuda_kernels(cuda);
#endif
}
