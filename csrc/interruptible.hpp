// Native work that Ctrl-C stops.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>

#include <functional>
#include <type_traits>

namespace pythermo {

// Runs work(keep_going) without the GIL; a signal (Ctrl-C) stops it and is raised as Python does.
template <class Work>
auto interruptible(const Work& work) {
  namespace py = pybind11;
  bool interrupted = false;
  const std::function<bool()> keep_going = [&] {
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

}  // namespace pythermo
