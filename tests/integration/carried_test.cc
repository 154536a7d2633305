// Where memory cannot be kept from criu, criu carries it, all of it frozen.
#include <sys/stat.h>

#include <fstream>

#include "memory_fixture.h"

namespace dvs::integration {
namespace {

class Carried : public MemoryTest {
 protected:
  static void SetUpTestSuite() {
    const std::string criu = binary("criu-without-preload");
    std::ofstream(criu) << "#!/bin/sh\n"
                           "unset LD_PRELOAD\n"
                           "PATH=/usr/local/lib/dvs/criu:$PATH exec criu \"$@\"\n";
    ASSERT_EQ(::chmod(criu.c_str(), 0755), 0);
    local::UpOptions options;
    options.run_bytes = 2ull << 30;
    options.dvsd_args = {"--criu", criu};
    start_cluster(options);
  }
};

TEST_F(Carried, ACriuThatDoesNotLoadOurLibraryCarriesTheMemory) {
  make_dc("lab");
  const Process writer = start_writer(4000);
  for (const char* node : {"n2", "n3", "n1"}) {
    const Json record = move(writer, node);
    EXPECT_EQ(record["state"], "committed") << record;
    EXPECT_EQ(record["algorithm"], "");
    EXPECT_NE(record["why"].get<std::string>().find("LD_PRELOAD"), std::string::npos) << record;
    expect_writes(writer);
  }
  how_ = {{"algorithm", "pre-copy"}};
  EXPECT_REFUSED(migrate(writer, "n2"), Code::kUnsupported, "LD_PRELOAD");
}

}  // namespace
}  // namespace dvs::integration
