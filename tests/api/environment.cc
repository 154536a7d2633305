// Every test finds the region made, also when it is the only one that runs.
#include <gtest/gtest.h>

#include "support/one_node.h"

namespace dvs::testing {
namespace {

class Environment : public ::testing::Environment {
  void SetUp() override { OneNode::instance(); }
};

const auto* const environment = ::testing::AddGlobalTestEnvironment(new Environment);

}  // namespace
}  // namespace dvs::testing
