// The protocols of training: how long a step is, and whether a retraction brings it back to a sphere.
//
// A protocol is a struct in the list below, and an object of the same name in pythermo/sphere/protocols.py,
// which also says what temperature and radius it leads to.
#pragma once

#include <stdexcept>
#include <string>

#include "portable.hpp"

namespace pythermo::protocols {

// On a sphere, where weight decay has no effect.
struct Sphere {
  static constexpr const char* name = "sphere";
  static constexpr bool in_full_space = false;
};

struct FixedLr {
  static constexpr const char* name = "fixed-lr";
  static constexpr bool in_full_space = true;

  template <class Real>
  PYTHERMO_INLINE static Real step_size(Real lr, Real /*norm*/) {
    return lr;
  }
};

struct FixedElr {
  static constexpr const char* name = "fixed-elr";
  static constexpr bool in_full_space = true;

  template <class Real>
  PYTHERMO_INLINE static Real step_size(Real lr, Real norm) {
    return lr * (norm * norm);
  }
};

template <class... Each>
struct List {
  // Calls call(Protocol{}) for the one at `place`.
  template <class Call>
  static void at(int place, const Call& call) {
    int here = 0;
    ((here++ == place ? call(Each{}) : void()), ...);
  }

  static int place_of(const std::string& name) {
    int place = -1, here = 0;
    ((place = name == Each::name ? here : place, ++here), ...);
    if (place < 0) throw std::invalid_argument("protocol: there is none named " + name);
    return place;
  }
};

using All = List<Sphere, FixedLr, FixedElr>;

}  // namespace pythermo::protocols
