// The key-value store: its server as it is, clients as functions and at the command line.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "client.h"
#include "store.h"
#include "support/one_node.h"

namespace {

using namespace std::chrono_literals;
using dvs::testing::OneNode;

TEST(Store, CountsItsBytesAndKeepsItsLimit) {
  kv::Store store(100);
  EXPECT_TRUE(store.put("a", std::string(49, 'x')));
  EXPECT_TRUE(store.put("b", std::string(49, 'x')));
  EXPECT_EQ(store.put("c", "").error(), kv::kFull);
  EXPECT_EQ(store.put("a", std::string(50, 'x')).error(), kv::kFull);
  EXPECT_EQ(store.compare_and_swap("a", std::string(49, 'x'), std::string(50, 'y')).error(),
            kv::kFull);
  EXPECT_EQ(*store.get("a"), std::string(49, 'x')) << "what is refused changes nothing";
  EXPECT_TRUE(store.put("a", "short"));
  EXPECT_TRUE(store.remove("b"));
  EXPECT_EQ(store.count().keys, 1u);
  EXPECT_EQ(store.count().bytes, 6u);
}

class Kv : public testing::Test {
 protected:
  static constexpr int kClient = 70;

  void SetUp() override {
    server_ = node_.start_program({binary("kv-server"), "--memory", "1"});
    ASSERT_TRUE(eventually_serves());
    auto self = dvk::Endpoint::create(kClient);
    ASSERT_TRUE(self) << self.error_name();
    self_.emplace(std::move(*self));
    client_.emplace(*self_, kv::kEndpoint, 10s);
  }
  void TearDown() override {
    ::kill(server_, SIGKILL);
    node_.finish(server_);
  }
  bool eventually_serves() {
    return dvk_wait4bindep_T(kv::kEndpoint, 10'000) == kv::kEndpoint &&
           node_.await_waiting(kv::kEndpoint);
  }
  static std::string binary(const std::string& name) {
    return std::string(std::getenv("DVS_BUILD_DIR")) + "/bin/" + name;
  }

  // What kv-client prints, with its exit status before it.
  std::string tool(std::vector<std::string> args, int endpoint = 71) {
    const std::string out = "/tmp/kv_test." + std::to_string(getpid());
    args.insert(args.begin(), binary("kv-client"));
    const pid_t pid = node_.start([&] {
      ::dup2(::open(out.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600), 1);
      ::dup2(1, 2);
      std::vector<char*> argv;
      for (std::string& arg : args) argv.push_back(arg.data());
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      return 127;
    });
    node_.bind(endpoint, pid);
    std::ostringstream said;
    said << node_.finish(pid) << ": " << std::ifstream(out).rdbuf();
    std::filesystem::remove(out);
    return said.str();
  }

  OneNode& node_ = OneNode::instance();
  pid_t server_ = 0;
  std::optional<dvk::Endpoint> self_;
  std::optional<kv::Client> client_;
};

TEST_F(Kv, KeepsWhatItIsGivenUntilItIsReplacedOrDeleted) {
  EXPECT_EQ(client_->get("colour").error(), kv::kNoSuchKey);
  ASSERT_TRUE(client_->put("colour", "green"));
  EXPECT_EQ(*client_->get("colour"), "green");
  ASSERT_TRUE(client_->put("colour", ""));
  EXPECT_EQ(*client_->get("colour"), "");
  EXPECT_TRUE(client_->remove("colour"));
  EXPECT_EQ(client_->remove("colour").error(), kv::kNoSuchKey);
  EXPECT_EQ(client_->count()->keys, 0u);
}

TEST_F(Kv, KeysAndValuesMayBeLongButNotLonger) {
  std::string key(kv::kMaxLength, 'k');
  std::string value(kv::kMaxLength, '\0');
  for (size_t i = 0; i < value.size(); ++i) value[i] = static_cast<char>(i * 7 + i / 256);
  ASSERT_TRUE(client_->put(key, value));
  EXPECT_EQ(*client_->get(key), value);
  EXPECT_EQ(client_->put(key, value + "x").error(), kv::kTooLong);
  EXPECT_EQ(client_->put(key + "k", value).error(), kv::kTooLong);
  EXPECT_EQ(client_->put("", "x").error(), kv::kEmptyKey);
  EXPECT_EQ(client_->count()->bytes, 2 * kv::kMaxLength);
}

TEST_F(Kv, ComparesAndSwaps) {
  EXPECT_EQ(client_->compare_and_swap("n", "1", "2").error(), kv::kNoSuchKey);
  ASSERT_TRUE(client_->put("n", "1"));
  EXPECT_EQ(client_->compare_and_swap("n", "0", "2").error(), kv::kChanged);
  EXPECT_EQ(*client_->get("n"), "1");
  EXPECT_TRUE(client_->compare_and_swap("n", "1", "2"));
  EXPECT_EQ(*client_->get("n"), "2");
}

// More than one page: eight of the longest keys.
TEST_F(Kv, ListsAllKeysInOrder) {
  std::vector<std::string> keys;
  for (char c = 'a'; c < 'i'; ++c) keys.emplace_back(kv::kMaxLength, c);
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) ASSERT_TRUE(client_->put(*key, "v"));
  ASSERT_TRUE(client_->put("b", "v"));
  EXPECT_EQ(*client_->list("b"), (std::vector<std::string>{"b", keys[1]}));
  keys.insert(keys.begin() + 1, "b");
  EXPECT_EQ(*client_->list(), keys);
}

TEST_F(Kv, TheToolDoesEachOfThemAndSaysWhatIsWrong) {
  EXPECT_EQ(tool({"put", "colour", "green"}), "0: ");
  EXPECT_EQ(tool({"get", "colour"}), "0: green\n");
  EXPECT_EQ(tool({"cas", "colour", "red", "blue"}),
            "2: kv-client: cas: its value is not the expected one\n");
  EXPECT_EQ(tool({"cas", "colour", "green", "blue"}), "0: ");
  EXPECT_EQ(tool({"put", "size", "7"}), "0: ");
  EXPECT_EQ(tool({"list"}), "0: colour\nsize\n");
  EXPECT_EQ(tool({"list", "s"}), "0: size\n");
  EXPECT_EQ(tool({"count"}), "0: 2 keys, 15 bytes\n");
  EXPECT_EQ(tool({"delete", "size"}), "0: ");
  EXPECT_EQ(tool({"get", "size"}), "2: kv-client: get: there is no such key\n");
  EXPECT_EQ(tool({"--server", "21", "get", "size"}),
            "1: kv-client: get: there is no server at that endpoint\n");
  EXPECT_NE(tool({"--help"}).find("cas"), std::string::npos);
  EXPECT_NE(tool({"fly"}).substr(0, 1), "0");
}

TEST_F(Kv, SoakingFindsNothingWrongAndNoticesWhatIs) {
  const std::string good = tool({"soak", "--requests", "500", "--seed", "3"});
  EXPECT_NE(good.find("errors=0"), std::string::npos) << good;
  EXPECT_EQ(good.substr(0, 2), "0:") << good;
  EXPECT_EQ(good.find("BAD"), std::string::npos) << good;
  const auto count = client_->get("soak-counter");
  ASSERT_TRUE(count);
  EXPECT_NE(good.find(" swaps=" + *count + " "), std::string::npos) << *count << good;

  // Another process writes into the same keys: that must not go unnoticed.
  const pid_t vandal = node_.start([] {
    auto self = dvk::Endpoint::create(73);
    if (!self) return 1;
    const kv::Client client(*self, kv::kEndpoint, 10s);
    for (int n = 0;; ++n) (void)client.put("soak-72-" + std::to_string(n % 32), "mine");
  });
  ASSERT_GE(dvk_wait4bindep_T(73, 10'000), 0);
  const std::string bad = tool({"soak", "--requests", "2000"}, 72);
  EXPECT_EQ(bad.substr(0, 2), "1:") << bad;
  EXPECT_NE(bad.find("BAD: request"), std::string::npos);
  ::kill(vandal, SIGKILL);
  node_.finish(vandal);
}

}  // namespace
