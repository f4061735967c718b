#include "bindings_cuda.hpp"

#include <pybind11/stl.h>

#include <vector>

#include "bindings_sphere.hpp"
#include "borrow.hpp"
#include "cuda/gradient_sums.hpp"
#include "cuda/knn.hpp"
#include "cuda/projected_sgd_step.hpp"
#include "cuda/sketch.hpp"
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

void bind_knn(py::module_& module) {
  using cuda::KnnArguments;
  module.attr("knn_fine") = cuda::knn_status::fine;
  module.attr("knn_too_far_apart") = cuda::knn_status::too_far_apart;
  module.def("knn_workspace_size", &cuda::knn_workspace_size, py::arg("clouds"), py::arg("points"),
             py::arg("dim"), py::arg("k"), py::arg("ks"), py::arg("longest_sorted"), py::arg("bytes"));
  module.def("knn_update_workspace_size", &cuda::knn_update_workspace_size, py::arg("points"),
             py::arg("changed"), py::arg("dim"));
  module.def("knn_matrix_workspace_size", &cuda::knn_matrix_workspace_size, py::arg("points"), py::arg("k"),
             py::arg("ks"), py::arg("longest_sorted"));
  py::class_<KnnArguments>(module, "KnnArguments", py::module_local())
      .def(py::init([](const py::capsule& workspace, const py::capsule& status, std::uintptr_t stream,
                       unsigned threads, std::size_t longest_sorted) {
             return KnnArguments{borrow(workspace, "workspace"), borrow(status, "status"), stream, threads,
                                 longest_sorted};
           }),
           py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::arg("workspace"), py::arg("status"),
           py::arg("stream"), py::arg("threads"), py::arg("longest_sorted"));
  module.def(
      "knn_distances",
      [](const py::capsule& points, std::size_t k, const py::capsule& distances, const py::capsule& indices,
         const KnnArguments& arguments) {
        const TensorView p = borrow(points, "points"), d = borrow(distances, "distances"),
                         i = borrow(indices, "indices");
        const py::gil_scoped_release release;
        cuda::knn_distances(p, k, d, i, arguments);
      },
      py::arg("points"), py::arg("k"), py::arg("distances"), py::arg("indices"), py::arg("arguments"));
  module.def(
      "knn_distance_sums",
      [](const py::capsule& points, const std::vector<std::size_t>& ks, double gamma, const py::capsule& sums,
         const KnnArguments& arguments) {
        const TensorView p = borrow(points, "points"), s = borrow(sums, "sums");
        const py::gil_scoped_release release;
        cuda::knn_distance_sums(p, ks, gamma, s, arguments);
      },
      py::arg("points"), py::arg("ks"), py::arg("gamma"), py::arg("sums"), py::arg("arguments"));
  module.def(
      "update_squared_distances",
      [](const py::capsule& points, std::size_t first, std::size_t changed, const py::capsule& matrix,
         const KnnArguments& arguments) {
        const TensorView p = borrow(points, "points"), m = borrow(matrix, "matrix");
        const py::gil_scoped_release release;
        cuda::update_squared_distances(p, first, changed, m, arguments);
      },
      py::arg("points"), py::arg("first"), py::arg("changed"), py::arg("matrix"), py::arg("arguments"));
  module.def(
      "matrix_distance_sums",
      [](const py::capsule& matrix, const std::vector<std::size_t>& ks, double gamma, std::size_t without,
         std::size_t without_end, const py::capsule& sums, const KnnArguments& arguments) {
        const TensorView m = borrow(matrix, "matrix"), s = borrow(sums, "sums");
        const py::gil_scoped_release release;
        cuda::matrix_distance_sums(m, ks, gamma, without, without_end, s, arguments);
      },
      py::arg("matrix"), py::arg("ks"), py::arg("gamma"), py::arg("without"), py::arg("without_end"),
      py::arg("sums"), py::arg("arguments"));
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
  bind_knn(module);
  module.def(
      "sketch",
      [](const py::capsule& weights, const py::capsule& out, std::uint64_t seed, std::uintptr_t stream) {
        const TensorView w = borrow(weights, "weights"), o = borrow(out, "out");
        const py::gil_scoped_release release;
        cuda::sketch(w, o, seed, stream);
      },
      py::arg("weights"), py::arg("out"), py::arg("seed"), py::arg("stream"));
}

}  // namespace pythermo
