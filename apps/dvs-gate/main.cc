// criu's action script for a restore: holds the restored tree at the gate until dvsd has decided
// (migrate/engine/gate.h has the files). criu runs it for every action while the process that
// moves stands still, so it is small and static.
//
// Called under the name of the gate's files: DIR/gate. Exit status 0 lets criu go on.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

int open_file(const char* gate, const char* suffix, int flags) {
  char path[4096];
  const int length = std::snprintf(path, sizeof path, "%s%s", gate, suffix);
  if (length < 0 || length >= static_cast<int>(sizeof path)) return -1;
  return ::open(path, flags | O_CLOEXEC, 0644);
}

bool mark(const char* gate, const char* suffix) {
  return open_file(gate, suffix, O_WRONLY | O_CREAT | O_TRUNC) >= 0;
}

// criu waits for ever for a tree whose first process was killed at the gate.
bool tree_lives() {
  const char* pid = std::getenv("CRTOOLS_INIT_PID");
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%.20s/stat", pid == nullptr ? "" : pid);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  char stat[512] = {};
  if (fd < 0 || ::read(fd, stat, sizeof stat - 1) <= 0) return false;
  const char* name_end = std::strrchr(stat, ')');
  return name_end != nullptr && std::strncmp(name_end, ") Z", 3) != 0;
}

// FIFOs are opened for reading and writing: that blocks nowhere and never reads an end of file, so
// a dvsd that dies or is not there changes nothing.
bool hold(const char* gate) {
  const int decision = open_file(gate, ".in", O_RDWR);
  const int report = open_file(gate, ".out", O_RDWR);
  if (decision < 0 || report < 0 || !mark(gate, ".held")) return false;
  if (::write(report, "held\n", 5) != 5) return false;
  char word[3];
  return ::read(decision, word, sizeof word) == sizeof word &&
         std::memcmp(word, "go\n", sizeof word) == 0 && tree_lives();
}

}  // namespace

int main(int, char** argv) {
  const char* action = std::getenv("CRTOOLS_SCRIPT_ACTION");
  if (action == nullptr) {
    static constexpr char kText[] = "dvs-gate is run by criu, for dvsd\n";
    [[maybe_unused]] const auto said = ::write(STDERR_FILENO, kText, sizeof kText - 1);
    return 2;
  }
  if (std::strcmp(action, "post-restore") == 0) return hold(argv[0]) ? 0 : 1;
  if (std::strcmp(action, "post-resume") == 0) return mark(argv[0], ".resumed") ? 0 : 1;
  return 0;
}
