// What dvsd and dvs-pager say to each other, one word per packet of a SOCK_SEQPACKET socket, and
// the names of what they share in a migration's directory. Internal to one machine: no byte order.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "mover/page_range.h"

namespace dvs::mover {

enum class PagerVerb : uint32_t {
  // The pager's.
  kReady,      // criu may come
  kWant,       // these pages, at once: somebody waits for them
  kWantLater,  // ... when nothing more urgent is wanted
  // dvsd's.
  kStored,  // these pages are in the store now
  kZeros,   // these pages are zeros
  kGone,    // what is owed cannot come any more; why, follows the word as text
};

struct PagerWord {
  PagerVerb verb = PagerVerb::kReady;
  pid_t pid = 0;      // whose, as the store names it
  PageRange pages{};  // as the store has them
};

inline constexpr size_t kLongestWord = 1024;  // with its text, bytes

inline constexpr const char* kPagerSocket = "pager.socket";  // for a dvsd that was restarted
inline constexpr const char* kPagerOutcome =
    "memory.outcome";  // its last word: kComplete, or why not
inline constexpr const char* kComplete = "complete";

}  // namespace dvs::mover
