// A simulation's settings and arrays from Python, for the CPU's kernels and for CUDA's.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <stdexcept>
#include <string>

#include "borrow.hpp"
#include "sphere_arrays.hpp"

namespace pythermo {

using CapsulesByName = std::map<std::string, pybind11::capsule>;

inline sphere::Protocol sphere_protocol(const std::string& name) {
  static const std::map<std::string, sphere::Protocol> protocols{
      {"projection", sphere::Protocol::projection},
      {"exponential", sphere::Protocol::exponential},
      {"fixed-lr", sphere::Protocol::fixed_lr},
      {"fixed-elr", sphere::Protocol::fixed_elr}};
  const auto found = protocols.find(name);
  if (found == protocols.end()) throw std::invalid_argument("protocol: there is none named " + name);
  return found->second;
}

inline SphereSettings sphere_settings(const pybind11::dict& given) {
  const auto read = [&]<class Value>(const char* name, Value& value) {
    value = given[name].template cast<Value>();
  };
  SphereSettings settings{};
  read("dim", settings.dim);
  read("sigma", settings.sigma);
  read("batch_size", settings.batch_size);
  read("epochs", settings.epochs);
  read("seed", settings.seed);
  settings.protocol = sphere_protocol(given["protocol"].cast<std::string>());
  read("weight_decay", settings.weight_decay);
  read("first_step", settings.first_step);
  read("last_step", settings.last_step);
  read("window", settings.window);
  read("stride", settings.stride);
  return settings;
}

inline SphereArrays sphere_arrays(const CapsulesByName& arrays) {
  const auto view = [&](const char* name) {
    const auto found = arrays.find(name);
    if (found == arrays.end()) throw std::invalid_argument(std::string(name) + ": is missing");
    return borrow(found->second, name);
  };
  return {view("vectors"),        view("weights"),        view("lr"),
          view("replica"),        view("measure_at"),     view("loss"),
          view("full_grad_norm"), view("mean_grad_norm"), view("snr"),
          view("weights_at"),     view("window_mean"),    view("window_variance"),
          view("window_loss"),    view("trajectory")};
}

}  // namespace pythermo
