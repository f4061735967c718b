// How a long computation is stopped.
#pragma once

#include <functional>

namespace pythermo {

// Called by the calling thread a few times a second; if it returns false the work stops, its outputs useless.
using KeepGoing = std::function<bool()>;

}  // namespace pythermo
