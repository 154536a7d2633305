// What the echo server and its client agree on.
#pragma once

#include <dvk/dvk.hpp>

namespace echo {

constexpr int kEndpoint = 11;  // of the server, unless another is given
constexpr int kRequest = 1;    // message types
constexpr int kAnswer = 2;

struct Text {
  int count;  // of the requests that this server has answered
  char text[48];
};

}  // namespace echo
