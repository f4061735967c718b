// The Python module pythermo._core: the only file that knows Python.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cpu/instruction_set.hpp"
#include "cpu/projected_sgd_step.hpp"
#include "tensor_view.hpp"
#if defined(PYTHERMO_CUDA)
#include "cuda/device.hpp"
#endif

namespace py = pybind11;
using namespace pythermo;

namespace {

// Borrows the tensor of a DLPack capsule, which stays the owner.
TensorView borrow(const py::capsule& capsule, const char* name) {
  const auto* managed = capsule.get_pointer<dlpack::ManagedTensor>();
  return {managed->tensor, name};
}

template <void (*step)(const TensorView&, const TensorView&, double, double, int)>
void bind_step(py::module_& module, const char* name) {
  module.def(
      name,
      [](const py::capsule& weights, const py::capsule& grad, double lr, double radius, int threads) {
        const TensorView w = borrow(weights, "weights"), g = borrow(grad, "grad");
        const py::gil_scoped_release release;
        step(w, g, lr, radius, threads);
      },
      py::arg("weights"), py::arg("grad"), py::arg("lr"), py::arg("radius"), py::arg("threads"));
}

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
  bind_step<cpu::projected_sgd_step>(module, "projected_sgd_step");
  bind_step<cpu::exponential_sgd_step>(module, "exponential_sgd_step");
}
