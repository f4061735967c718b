// A simulation's settings and arrays from Python's dictionaries.
#pragma once

#include <map>
#include <stdexcept>
#include <string>

#include "bind.hpp"
#include "sphere_arrays.hpp"

namespace pythermo {

inline sphere::Retraction retraction_of(const std::string& name) {
  if (name == "projection") return sphere::Retraction::projection;
  if (name == "exponential") return sphere::Retraction::exponential;
  throw std::invalid_argument("retraction: there is none named " + name);
}

template <>
struct FromPython<SphereSettings> {
  using Given = pybind11::dict;
  static SphereSettings take(const Given& given, const char* /*name*/) {
    const auto read = [&]<class Value>(const char* name, Value& value) {
      value = given[name].template cast<Value>();
    };
    SphereSettings settings{};
    read("dim", settings.dim);
    read("sigma", settings.sigma);
    read("batch_size", settings.batch_size);
    read("epochs", settings.epochs);
    read("seed", settings.seed);
    settings.protocol = protocols::All::place_of(given["protocol"].cast<std::string>());
    settings.retraction = retraction_of(given["retraction"].cast<std::string>());
    read("weight_decay", settings.weight_decay);
    read("first_step", settings.first_step);
    read("last_step", settings.last_step);
    read("window", settings.window);
    read("stride", settings.stride);
    return settings;
  }
};

template <>
struct FromPython<SphereArrays> {
  using Given = std::map<std::string, pybind11::capsule>;
  static SphereArrays take(const Given& given, const char* /*name*/) {
    const auto view = [&](const char* name) {
      const auto found = given.find(name);
      if (found == given.end()) throw std::invalid_argument(std::string(name) + ": is missing");
      return FromPython<TensorView>::take(found->second, name);
    };
    return {view("vectors"),        view("weights"),        view("lr"),
            view("replica"),        view("measure_at"),     view("loss"),
            view("full_grad_norm"), view("mean_grad_norm"), view("snr"),
            view("weights_at"),     view("window_mean"),    view("window_variance"),
            view("window_loss"),    view("trajectory")};
  }
};

}  // namespace pythermo
