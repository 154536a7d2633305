#include "gate.h"

#include <fcntl.h>
#include <unistd.h>

#include <string_view>

#include "base/unique_fd.h"

namespace dvs::helper {
namespace {

UniqueFd open_file(const std::string& path, int flags) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
}

bool mark(const std::string& path) { return open_file(path, O_WRONLY | O_CREAT | O_TRUNC).valid(); }

}  // namespace

// The FIFO is opened for reading and writing: that blocks nowhere and never reads an end of file,
// so a dvsd that dies or is not there changes nothing.
bool hold_at_gate(const std::string& gate, void (*report)()) {
  const UniqueFd decision = open_file(gate + ".in", O_RDWR);
  if (!decision.valid() || !mark(gate + ".held")) return false;
  report();
  char word[3];
  return ::read(decision.get(), word, sizeof word) == sizeof word &&
         std::string_view(word, sizeof word) == "go\n";
}

bool mark_resumed(const std::string& gate) { return mark(gate + ".resumed"); }

}  // namespace dvs::helper
