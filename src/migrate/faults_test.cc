#include "migrate/faults.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/file.h"

namespace dvs {
namespace {

TEST(FaultPoints, AreInTheDocumentAsTheyAreInTheCode) {
  const auto document = read_file(std::string(DVS_SOURCE_DIR) + "/docs/migration.md");
  ASSERT_TRUE(document.ok());
  for (const FaultPoint& point : kFaultPoints) {
    const std::string row = "| `" + std::string(point.name) + "` | " +
                            std::string(role_name(point.role)) + " | " +
                            (point.kind == FaultKind::kDies ? "dies" : "fails") + " | " +
                            std::string(point.when) + " |\n";
    EXPECT_NE(document->find(row), std::string::npos) << row;
  }
}

TEST(FaultPoints, AreNumberedInOrderAndNamedOnce) {
  std::set<std::string_view> names;
  int number = 0;
  for (const FaultPoint& point : kFaultPoints) {
    EXPECT_EQ(static_cast<int>(point.fault), ++number) << point.name;
    EXPECT_TRUE(names.insert(point.name).second) << point.name;
  }
}

TEST(FaultPoints, FireOnceForEachTimeTheyAreArmed) {
  Faults faults(true);
  EXPECT_FALSE(faults.fires(Fault::kDump));
  ASSERT_TRUE(faults.arm("dump").ok());
  EXPECT_FALSE(faults.fires(Fault::kRestore));
  EXPECT_TRUE(faults.fires(Fault::kDump));
  EXPECT_FALSE(faults.fires(Fault::kDump));
}

TEST(FaultPoints, AreRefusedByNameAndWhereTheyAreNotAllowed) {
  const Status unknown = Faults(true).arm("no-such-point");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message().find("no-such-point"), std::string::npos);
  const Status denied = Faults(false).arm("dump");
  ASSERT_FALSE(denied.ok());
  EXPECT_EQ(denied.error().code(), Code::kDenied);
}

}  // namespace
}  // namespace dvs
