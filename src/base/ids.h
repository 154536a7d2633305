// Small identifiers shared by all layers.
#pragma once

#include <cstdint>

namespace dvs {

using NodeId = uint16_t;
constexpr NodeId kMaxNodes = 1024;  // ids are 0 .. kMaxNodes - 1

}  // namespace dvs
