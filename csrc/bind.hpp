// A native function as one of Python, in one line: tensors come as DLPack capsules, the GIL is released, and
// what takes a last argument KeepGoing is stopped by Ctrl-C.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "keep_going.hpp"
#include "tensor_view.hpp"

namespace pythermo {

// What Python gives for an argument of a type, and how it is taken.
template <class Argument>
struct FromPython {
  using Given = Argument;
  static const Argument& take(const Given& given, const char* /*name*/) { return given; }
};

// Borrows the tensor of a capsule, which stays the owner.
template <>
struct FromPython<TensorView> {
  using Given = pybind11::capsule;
  static TensorView take(const Given& given, const char* name) {
    return {given.get_pointer<dlpack::ManagedTensor>()->tensor, name};
  }
};

// A list of tensors, which messages tell apart by their index where there are several.
template <>
struct FromPython<std::vector<TensorView>> {
  using Given = std::vector<pybind11::capsule>;
  static std::vector<TensorView> take(const Given& given, const char* name) {
    std::vector<TensorView> tensors;
    tensors.reserve(given.size());
    for (const pybind11::capsule& one : given) {
      const int index = given.size() > 1 ? static_cast<int>(tensors.size()) : -1;
      tensors.emplace_back(one.get_pointer<dlpack::ManagedTensor>()->tensor, name, index);
    }
    return tensors;
  }
};

// A list in which some may be None.
template <>
struct FromPython<std::vector<std::optional<TensorView>>> {
  using Given = std::vector<std::optional<pybind11::capsule>>;
  static std::vector<std::optional<TensorView>> take(const Given& given, const char* name) {
    std::vector<std::optional<TensorView>> tensors(given.size());
    for (std::size_t i = 0; i < given.size(); ++i) {
      if (!given[i].has_value()) continue;
      const int index = given.size() > 1 ? static_cast<int>(i) : -1;
      tensors[i].emplace(given[i]->get_pointer<dlpack::ManagedTensor>()->tensor, name, index);
    }
    return tensors;
  }
};

// Runs work(keep_going) without the GIL; a signal (Ctrl-C) stops it and is raised as Python does.
template <class Work>
auto interruptible(const Work& work) {
  namespace py = pybind11;
  bool interrupted = false;
  const KeepGoing keep_going = [&] {
    const py::gil_scoped_acquire acquire;
    interrupted = PyErr_CheckSignals() != 0;
    return !interrupted;
  };
  const auto run = [&] {
    const py::gil_scoped_release release;
    return work(keep_going);
  };
  if constexpr (std::is_void_v<decltype(run())>) {
    run();
    if (interrupted) throw py::error_already_set();
  } else {
    auto result = run();
    if (interrupted) throw py::error_already_set();
    return result;
  }
}

namespace detail {

template <class... Parameters>
using Arguments = std::tuple<std::remove_cvref_t<Parameters>...>;

template <class... Parameters>
constexpr bool is_interruptible = false;
template <class First, class... Others>
constexpr bool is_interruptible<First, Others...> =
    std::is_same_v<std::tuple_element_t<sizeof...(Others), Arguments<First, Others...>>, KeepGoing>;

// `names` are those of the first arguments, all but a last one KeepGoing.
template <std::size_t... I, class Result, class... Parameters>
void bind(std::index_sequence<I...>, pybind11::module_& module, const char* name,
          Result (*function)(Parameters...), const char* const* given_names) {
  using All = Arguments<Parameters...>;
  const std::array<const char*, sizeof...(I)> names{given_names[I]...};
  module.def(
      name,
      [=](const typename FromPython<std::tuple_element_t<I, All>>::Given&... given) {
        const std::tuple<std::tuple_element_t<I, All>...> taken{
            FromPython<std::tuple_element_t<I, All>>::take(given, names[I])...};
        const auto call = [&](const auto&... last) {
          return std::apply([&](const auto&... arguments) { return function(arguments..., last...); }, taken);
        };
        if constexpr (is_interruptible<Parameters...>) {
          return interruptible(call);
        } else {
          const pybind11::gil_scoped_release release;
          return call();
        }
      },
      pybind11::arg(names[I])...);
}

template <class Struct, class... Members, std::size_t... I>
void bind_struct(std::index_sequence<I...>, pybind11::module_& module, const char* name,
                 const char* const* given_names) {
  const std::array<const char*, sizeof...(I)> names{given_names[I]...};
  pybind11::class_<Struct>(module, name, pybind11::module_local())
      .def(pybind11::init([=](const typename FromPython<Members>::Given&... given) {
             return Struct{FromPython<Members>::take(given, names[I])...};
           }),
           pybind11::keep_alive<1, I + 2>()..., pybind11::arg(names[I])...);
}

}  // namespace detail

// `names` are those of the function's arguments, but for a last one KeepGoing.
template <std::size_t count, class Result, class... Parameters>
void bind(pybind11::module_& module, const char* name, Result (*function)(Parameters...),
          const char* const (&names)[count]) {
  static_assert(count + detail::is_interruptible<Parameters...> == sizeof...(Parameters),
                "each argument has a name");
  detail::bind(std::make_index_sequence<count>(), module, name, function, names);
}

template <class Result>
void bind(pybind11::module_& module, const char* name, Result (*function)()) {
  module.def(name, function);
}

// A struct of arguments, from its members by name; what these borrow lives as long as it does.
template <class Struct, class... Members, std::size_t count>
void bind_struct(pybind11::module_& module, const char* name, const char* const (&names)[count]) {
  static_assert(count == sizeof...(Members), "each member has a name");
  detail::bind_struct<Struct, Members...>(std::make_index_sequence<count>(), module, name, names);
}

}  // namespace pythermo
