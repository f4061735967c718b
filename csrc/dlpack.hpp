// The memory layout of DLPack tensors (https://dmlc.github.io/dlpack), as far as this project reads them.
#pragma once

#include <cstdint>

namespace pythermo::dlpack {

enum class DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };

enum class TypeCode : std::uint8_t { signed_int = 0, unsigned_int = 1, floating = 2 };

struct Device {
  DeviceType type;
  std::int32_t index;
};

struct DataType {
  TypeCode code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null for a compact row-major tensor
  std::uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* manager;
  void (*deleter)(ManagedTensor*);
};

}  // namespace pythermo::dlpack
