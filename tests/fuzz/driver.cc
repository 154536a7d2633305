// Runs a fuzz target once on each file of the directories given, without libFuzzer.
#include <cstdio>

#include "base/file.h"
#include "fuzz/target.h"

int main(int argc, char** argv) {
  int count = 0;
  for (int i = 1; i < argc; ++i) {
    auto names = dvs::list_dir(argv[i]);
    if (!names.ok()) return 2;
    for (const std::string& name : *names) {
      const auto bytes = dvs::read_file(std::string(argv[i]) + "/" + name);
      if (!bytes.ok()) return 2;
      std::printf("%s\n", name.c_str());
      std::fflush(stdout);  // so that the last line names the one that broke it
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size());
      ++count;
    }
  }
  std::printf("%d inputs\n", count);
  return count > 0 ? 0 : 1;
}
