// The Python module pythermo._core. Only the bindings know Python.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "bindings_sphere.hpp"
#include "borrow.hpp"
#include "cpu/batch_norm_relu.hpp"
#include "cpu/gradient_sums.hpp"
#include "cpu/instruction_set.hpp"
#include "cpu/knn.hpp"
#include "cpu/projected_sgd_step.hpp"
#include "cpu/sketch.hpp"
#include "cpu/sphere.hpp"
#include "interruptible.hpp"
#if defined(PYTHERMO_CUDA)
#include "bindings_cuda.hpp"
#include "cuda/device.hpp"
#endif

namespace py = pybind11;
using namespace pythermo;

namespace {

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

void simulate_sphere(const py::dict& settings, const CapsulesByName& arrays, int threads) {
  const SphereSettings chosen = sphere_settings(settings);
  const SphereArrays views = sphere_arrays(arrays);
  interruptible([&](const auto& keep_going) { cpu::simulate_sphere(chosen, views, threads, keep_going); });
}

void bind_sphere(py::module_& module) {
  module.def("simulate_sphere", &simulate_sphere, py::arg("settings"), py::arg("arrays"), py::arg("threads"));
  module.def(
      "sphere_indices",
      [](const py::capsule& out, std::size_t replicas, std::size_t batch_size, std::size_t samples,
         bool epochs, std::uint64_t seed, std::uint64_t first_step) {
        const py::gil_scoped_release release;
        cpu::sphere_indices(borrow(out, "out"), replicas, batch_size, samples, epochs, seed, first_step);
      },
      py::arg("out"), py::arg("replicas"), py::arg("batch_size"), py::arg("samples"), py::arg("epochs"),
      py::arg("seed"), py::arg("first_step"));
  module.def(
      "sphere_normals",
      [](const py::capsule& out, std::size_t replicas, std::size_t dim, bool start, std::uint64_t seed,
         std::uint64_t first_step) {
        const py::gil_scoped_release release;
        cpu::sphere_normals(borrow(out, "out"), replicas, dim, start ? Stream::start : Stream::batches, seed,
                            first_step);
      },
      py::arg("out"), py::arg("replicas"), py::arg("dim"), py::arg("start"), py::arg("seed"),
      py::arg("first_step"));
}

// The cloud and the point of a row that is not finite, or None.
py::object as_object(const std::optional<cpu::BadRow>& row) {
  if (!row) return py::none();
  return py::make_tuple(row->cloud, row->point);
}

void bind_knn(py::module_& module) {
  module.def(
      "knn_distances",
      [](const py::capsule& points, std::size_t k, const py::capsule& distances, const py::capsule& indices,
         int threads) {
        const TensorView p = borrow(points, "points"), d = borrow(distances, "distances"),
                         i = borrow(indices, "indices");
        return as_object(interruptible(
            [&](const auto& keep_going) { return cpu::knn_distances(p, k, d, i, threads, keep_going); }));
      },
      py::arg("points"), py::arg("k"), py::arg("distances"), py::arg("indices"), py::arg("threads"));
  module.def(
      "knn_distance_sums",
      [](const py::capsule& points, const std::vector<std::size_t>& ks, double gamma, const py::capsule& sums,
         int threads) {
        const TensorView p = borrow(points, "points"), s = borrow(sums, "sums");
        return as_object(interruptible([&](const auto& keep_going) {
          return cpu::knn_distance_sums(p, ks, gamma, s, threads, keep_going);
        }));
      },
      py::arg("points"), py::arg("ks"), py::arg("gamma"), py::arg("sums"), py::arg("threads"));
  module.def(
      "update_squared_distances",
      [](const py::capsule& points, std::size_t first, std::size_t changed, const py::capsule& matrix,
         int threads) {
        const TensorView p = borrow(points, "points"), m = borrow(matrix, "matrix");
        return as_object(interruptible([&](const auto& keep_going) {
          return cpu::update_squared_distances(p, first, changed, m, threads, keep_going);
        }));
      },
      py::arg("points"), py::arg("first"), py::arg("changed"), py::arg("matrix"), py::arg("threads"));
  module.def(
      "matrix_distance_sums",
      [](const py::capsule& matrix, const std::vector<std::size_t>& ks, double gamma, std::size_t without,
         std::size_t without_end, const py::capsule& sums, int threads) {
        const TensorView m = borrow(matrix, "matrix"), s = borrow(sums, "sums");
        interruptible([&](const auto& keep_going) {
          cpu::matrix_distance_sums(m, ks, gamma, without, without_end, s, threads, keep_going);
        });
      },
      py::arg("matrix"), py::arg("ks"), py::arg("gamma"), py::arg("without"), py::arg("without_end"),
      py::arg("sums"), py::arg("threads"));
  module.def(
      "sketch",
      [](const py::capsule& weights, const py::capsule& out, std::uint64_t seed) {
        const TensorView w = borrow(weights, "weights"), o = borrow(out, "out");
        const py::gil_scoped_release release;
        cpu::sketch(w, o, seed);
      },
      py::arg("weights"), py::arg("out"), py::arg("seed"));
}

void bind_gradient(py::module_& module) {
  module.def(
      "gradient_sums",
      [](const py::capsule& grad, const py::capsule& center, const py::capsule& total,
         const py::capsule& sums, int threads) {
        const TensorView g = borrow(grad, "grad"), c = borrow(center, "center"), t = borrow(total, "total"),
                         s = borrow(sums, "sums");
        const py::gil_scoped_release release;
        cpu::gradient_sums(g, c, t, s, threads);
      },
      py::arg("grad"), py::arg("center"), py::arg("total"), py::arg("sums"), py::arg("threads"));
}

void bind_batch_norm(py::module_& module) {
  module.def(
      "batch_norm_relu",
      [](const py::capsule& x, std::size_t width, std::size_t pool, double eps, const py::capsule& output,
         const py::capsule& statistics, int threads) {
        const TensorView in = borrow(x, "x"), out = borrow(output, "output"),
                         constants = borrow(statistics, "statistics");
        const py::gil_scoped_release release;
        cpu::batch_norm_relu(in, width, pool, eps, out, constants, threads);
      },
      py::arg("x"), py::arg("width"), py::arg("pool"), py::arg("eps"), py::arg("output"),
      py::arg("statistics"), py::arg("threads"));
  module.def(
      "batch_norm_relu_backward",
      [](const py::capsule& x, std::size_t width, std::size_t pool, const py::capsule& output,
         const py::capsule& statistics, const py::capsule& grad, const py::capsule& grad_x, int threads) {
        const TensorView in = borrow(x, "x"), out = borrow(output, "output"),
                         constants = borrow(statistics, "statistics"), g = borrow(grad, "grad"),
                         g_x = borrow(grad_x, "grad_x");
        const py::gil_scoped_release release;
        cpu::batch_norm_relu_backward(in, width, pool, out, constants, g, g_x, threads);
      },
      py::arg("x"), py::arg("width"), py::arg("pool"), py::arg("output"), py::arg("statistics"),
      py::arg("grad"), py::arg("grad_x"), py::arg("threads"));
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
  bind_sphere(module);
  bind_knn(module);
  bind_gradient(module);
  bind_batch_norm(module);
#if defined(PYTHERMO_CUDA)
  py::module_ cuda = module.def_submodule("cuda", "The kernels on CUDA devices.");
  bind_cuda(cuda);
#endif
}
