// dvs-container: creates a distributed container's namespaces on this node, and gets programs into
// them. A program of its own because only a single-threaded process can change its time namespace,
// and because the first process of a container must outlive dvsd. See commands.h.
#include <cstdio>
#include <string_view>

#include "commands.h"

int main(int argc, char** argv) {
  using namespace dvs::helper;
  const std::string_view command = argc > 1 ? argv[1] : "";
  auto* run = command == "enter"  ? run_enter
              : command == "run"  ? run_program
              : command == "init" ? run_init
                                  : nullptr;
  if (run == nullptr) {
    std::fputs("usage: dvs-container init|enter|run OPTIONS (started by dvsd)\n", stderr);
    return 125;
  }
  auto options = parse_options(argv + 2);
  if (!options) {
    std::fprintf(stderr, "dvs-container: %s\n", options.error().message().c_str());
    return 125;
  }
  return run(*options);
}
