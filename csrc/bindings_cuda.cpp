#include "bindings_cuda.hpp"

#include "bindings_sphere.hpp"
#include "borrow.hpp"
#include "cuda/gradient_sums.hpp"
#include "cuda/projected_sgd_step.hpp"
#include "cuda/sphere.hpp"
#include "interruptible.hpp"

namespace py = pybind11;

namespace pythermo {
namespace {

template <void (*step)(const TensorView&, const TensorView&, const cuda::StepArguments&)>
void bind_step(py::module_& module, const char* name) {
  module.def(
      name,
      [](const py::capsule& weights, const py::capsule& grad, double lr, const py::capsule& lr_on_device,
         double radius, const py::capsule& workspace, const py::capsule& status, std::uintptr_t stream,
         unsigned threads) {
        const TensorView w = borrow(weights, "weights"), g = borrow(grad, "grad");
        const cuda::StepArguments arguments{lr,
                                            borrow(lr_on_device, "lr"),
                                            radius,
                                            borrow(workspace, "workspace"),
                                            borrow(status, "status"),
                                            stream,
                                            threads};
        const py::gil_scoped_release release;
        step(w, g, arguments);
      },
      py::arg("weights"), py::arg("grad"), py::arg("lr"), py::arg("lr_on_device"), py::arg("radius"),
      py::arg("workspace"), py::arg("status"), py::arg("stream"), py::arg("threads") = 256);
}

void bind_gradient(py::module_& module) {
  module.def(
      "gradient_sums",
      [](const py::capsule& grad, const py::capsule& center, const py::capsule& total,
         const py::capsule& sums, const py::capsule& workspace, const py::capsule& counter,
         std::uintptr_t stream, unsigned threads) {
        const TensorView g = borrow(grad, "grad"), c = borrow(center, "center"), t = borrow(total, "total"),
                         s = borrow(sums, "sums"), w = borrow(workspace, "workspace"),
                         n = borrow(counter, "counter");
        const py::gil_scoped_release release;
        cuda::gradient_sums(g, c, t, s, w, n, stream, threads);
      },
      py::arg("grad"), py::arg("center"), py::arg("total"), py::arg("sums"), py::arg("workspace"),
      py::arg("counter"), py::arg("stream"), py::arg("threads") = 256);
}

void simulate_sphere(const py::dict& settings, const CapsulesByName& arrays, const py::capsule& workspace,
                     std::uintptr_t stream, unsigned threads, std::uint64_t most_work) {
  const SphereSettings chosen = sphere_settings(settings);
  const SphereArrays views = sphere_arrays(arrays);
  const cuda::SphereLaunch launch{borrow(workspace, "workspace"), stream, threads, most_work};
  interruptible([&](const auto& keep_going) { cuda::simulate_sphere(chosen, views, launch, keep_going); });
}

std::size_t sphere_workspace_size(const py::dict& settings, std::size_t chains, std::size_t samples,
                                  std::size_t element_bytes, unsigned threads) {
  return cuda::sphere_workspace_size(sphere_settings(settings), chains, samples, element_bytes, threads);
}

void bind_sphere(py::module_& module) {
  module.def("simulate_sphere", &simulate_sphere, py::arg("settings"), py::arg("arrays"),
             py::arg("workspace"), py::arg("stream"), py::arg("threads"), py::arg("most_work"));
  module.def("sphere_workspace_size", &sphere_workspace_size, py::arg("settings"), py::arg("chains"),
             py::arg("samples"), py::arg("element_bytes"), py::arg("threads"));
}

}  // namespace

void bind_cuda(py::module_& module) {
  module.def("gradient_workspace_size", &cuda::gradient_workspace_size);
  bind_gradient(module);
  module.def("step_workspace_size", &cuda::step_workspace_size);
  bind_step<cuda::projected_sgd_step>(module, "projected_sgd_step");
  bind_step<cuda::exponential_sgd_step>(module, "exponential_sgd_step");
  bind_sphere(module);
}

}  // namespace pythermo
