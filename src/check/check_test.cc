#include "check/check.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "check/probes.h"

namespace dvs {
namespace {

// Environment variables as they were, afterwards.
class SavedEnv {
 public:
  explicit SavedEnv(const char* name) : name_(name) {
    if (const char* value = ::getenv(name)) value_ = value;
  }
  ~SavedEnv() { value_ ? ::setenv(name_, value_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> value_;
};

class CheckTest : public ::testing::Test {
 protected:
  CheckTest() {
    char name[] = "/tmp/dvs-check-test-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  ~CheckTest() override { std::filesystem::remove_all(dir_); }

  // A program that answers --version and check as told.
  std::string fake_criu(const std::string& version, const std::string& check) {
    const std::string path = dir_ + "/criu";
    std::ofstream(path) << "#!/bin/sh\ncase $1 in\n--version) echo 'Version: " << version
                        << "';;\ncheck) " << check << ";;\nesac\n";
    ::chmod(path.c_str(), 0755);
    ::setenv("DVS_CRIU", path.c_str(), 1);
    return path;
  }

  SavedEnv criu_{"DVS_CRIU"};
  SavedEnv path_{"PATH"};
  std::string dir_;
};

TEST_F(CheckTest, OneMissingFeatureMakesTheHostUnfit) {
  const std::vector<Feature> fit = {probe::ok("a", "x"), probe::degraded("b", "y", "do z")};
  EXPECT_TRUE(is_fit(fit));
  std::vector<Feature> unfit = fit;
  unfit.push_back(probe::missing("c", "gone", "get it"));
  EXPECT_FALSE(is_fit(unfit));
  EXPECT_EQ(check_to_json(unfit), Json::parse(R"({"fit": false, "features": [
      {"name": "a", "state": "ok", "detail": "x", "remedy": ""},
      {"name": "b", "state": "degraded", "detail": "y", "remedy": "do z"},
      {"name": "c", "state": "missing", "detail": "gone", "remedy": "get it"}]})"));
}

TEST_F(CheckTest, EveryFeatureThatIsNotOkSaysWhatToDo) {
  std::set<std::string> names;
  for (const auto& feature : check_host()) {
    EXPECT_TRUE(names.insert(feature.name).second) << feature.name << " is there twice";
    EXPECT_FALSE(feature.detail.empty()) << feature.name;
    EXPECT_EQ(feature.remedy.empty(), feature.state == FeatureState::kOk) << feature.name;
  }
  EXPECT_GE(names.size(), 19u);
}

TEST_F(CheckTest, CriuMustBeNewEnoughAndPassItsOwnCheck) {
  const std::string path = fake_criu("4.2.1", "echo Looks good.");
  EXPECT_EQ(probe::criu().detail, "4.2.1 at " + path);
  fake_criu("5.0", "true");
  EXPECT_EQ(probe::criu().state, FeatureState::kOk);
  fake_criu("4.1.1", "true");
  EXPECT_EQ(probe::criu().state, FeatureState::kMissing);
  EXPECT_NE(probe::criu().detail.find("older than 4.2"), std::string::npos);
  fake_criu("gibberish", "true");
  EXPECT_EQ(probe::criu().state, FeatureState::kMissing);
  fake_criu("4.2.1", "echo first; echo no vDSO; exit 1");
  EXPECT_EQ(probe::criu().state, FeatureState::kMissing);
  EXPECT_EQ(probe::criu().detail, path + " check: no vDSO");
  ::setenv("DVS_CRIU", (dir_ + "/nothing").c_str(), 1);
  EXPECT_EQ(probe::criu().state, FeatureState::kMissing);
}

TEST_F(CheckTest, CriuIsTakenFromThePathWhenNotConfigured) {
  const std::string path = fake_criu("4.2.1", "true");
  ::unsetenv("DVS_CRIU");
  ::setenv("PATH", (dir_ + ":/usr/bin:/bin").c_str(), 1);
  EXPECT_EQ(find_criu(), path);
}

TEST_F(CheckTest, ProgramsAreFoundOnlyWhenExecutable) {
  std::ofstream(dir_ + "/dvs-no-such-program") << "#!/bin/sh\n";
  ::setenv("PATH", dir_.c_str(), 1);
  EXPECT_EQ(find_program("dvs-no-such-program"), "");
  ::chmod((dir_ + "/dvs-no-such-program").c_str(), 0755);
  EXPECT_EQ(find_program("dvs-no-such-program"), dir_ + "/dvs-no-such-program");
}

TEST_F(CheckTest, ChildStatusIsPassedOnAndCrashesAreSeen) {
  EXPECT_EQ(probe::in_child([] { return 42; }), 42);
  EXPECT_EQ(probe::in_child([] { return ::raise(SIGKILL); }), -1);
}

}  // namespace
}  // namespace dvs
