// Dumps that leave memory alone, and their restores. Needs root, namespaces, a freezer cgroup,
// criu.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/child.h"
#include "base/file.h"
#include "base/json.h"
#include "container/process_ids.h"
#include "migrate/engine/testing/engine_fixture.h"
#include "mover/copier.h"
#include "mover/pager_words.h"
#include "mover/store.h"

namespace dvs::testing {
namespace {

// Of copied memory into a store.
class IntoStore final : public mover::PageSink {
 public:
  explicit IntoStore(mover::Store& store) : store_(store) {}
  Status pages(pid_t dc_pid, uint64_t address, std::string_view bytes) override {
    return store_.write(dc_pid, address, bytes);
  }
  Status drop(pid_t dc_pid, mover::PageRange range) override { return store_.drop(dc_pid, range); }
  Status owe(pid_t dc_pid, const mover::PageRanges& ranges) override {
    for (const mover::PageRange& range : ranges) DVS_TRY(store_.owe(dc_pid, range));
    return {};
  }

 private:
  mover::Store& store_;
};

class MemoryApartTest : public EngineTest {
 protected:
  static std::vector<mover::ProcessId> processes(const TestNode& node) {
    std::vector<mover::ProcessId> result;
    const auto threads = threads_of_cgroup(node.cgroup());
    for (const ThreadIds& ids : threads.ok() ? *threads : std::vector<ThreadIds>{}) {
      if (ids.host_pid == ids.host_tid) result.push_back({ids.host_pid, ids.dc_pid});
    }
    return result;
  }

  Result<DumpResult> dump_apart(const TestNode& node, pid_t pid) {
    return await<DumpResult>([&](auto done) {
      engine_->dump({node.site(kImages), pid, node.cgroup(), true, processes(node)},
                    std::move(done));
    });
  }

  // As dvsd on the target: before the restore. Its end is in pager_.
  void start_pager(const TestNode& target) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    words_.reset(ends[0]);
    const UniqueFd theirs(ends[1]);
    const UniqueFd images(
        ::open(target.site(kImages).dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ChildOptions options;
    options.argv = {PAGER_PROGRAM, "10000", target.procs_file()};
    options.stdin_fd = theirs.get();
    options.pass_fds = {{images.get(), 3}};
    auto started = run_child(executor_, std::move(options),
                             [this](ChildResult result) { pager_ = std::move(result); });
    ASSERT_TRUE(started.ok()) << started.error().message();
    pager_pid_ = *started;
    mover::PagerWord word;
    ASSERT_EQ(::recv(words_.get(), &word, sizeof word, 0), ssize_t{sizeof word});
    EXPECT_EQ(word.verb, mover::PagerVerb::kReady);
  }

  bool await_pager() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!pager_ && std::chrono::steady_clock::now() < deadline) {
      executor_.restart();
      executor_.run_one_for(std::chrono::milliseconds(50));
    }
    return pager_.has_value();
  }

  void copy_memory(const TestNode& source, const TestNode& target) {
    auto store = mover::Store::open(target.site(kImages).dir + "/" + mover::kStoreName);
    ASSERT_TRUE(store.ok()) << store.error().message();
    IntoStore sink(*store);
    mover::Copier copier(sink);
    auto copied = copier.last(processes(source));
    ASSERT_TRUE(copied.ok()) << copied.error().message();
    ASSERT_TRUE(store->seal().ok());
  }

  // Frozen and dumped at the source, restored and held at the target.
  std::unique_ptr<HeldTree> move(const TestNode& source, pid_t pid, const TestNode& target) {
    source.freeze();
    auto dumped = dump_apart(source, pid);
    EXPECT_TRUE(dumped.ok()) << dumped.error().message();
    copy_images(source, target);
    copy_memory(source, target);
    start_pager(target);
    auto held = await<std::unique_ptr<HeldTree>>([&](auto done) {
      engine_->restore({target.site(kImages), {target.procs_file()}, true}, std::move(done));
    });
    EXPECT_TRUE(held.ok()) << held.error().message();
    return held.ok() ? std::move(*held) : nullptr;
  }

  UniqueFd words_;
  pid_t pager_pid_ = -1;
  std::optional<ChildResult> pager_;
};

TEST_F(MemoryApartTest, ImagesAreSmallAndTheProcessGoesOn) {
  TestNode source("source");
  const pid_t pid = start(source, "big");  // 64 MiB
  source.freeze();
  auto dumped = dump_apart(source, pid);
  ASSERT_TRUE(dumped.ok()) << dumped.error().message();
  EXPECT_LT(dumped->image_bytes, 4u << 20);
  EXPECT_TRUE(source.frozen());
  source.thaw();
  EXPECT_TRUE(counts(source, 0));
}

TEST_F(MemoryApartTest, APreparedDumpWaitsForTheWord) {
  TestNode source("source");
  const pid_t pid = start(source, "threads");
  bool prepared = false;
  engine_->prepare_dump({source.site(kImages), pid, source.cgroup(), true, {}},
                        [&] { prepared = true; });
  ASSERT_TRUE(eventually([&] {
    executor_.restart();
    executor_.run_one_for(std::chrono::milliseconds(10));
    return prepared;
  }));
  EXPECT_TRUE(source.run({"pgrep", "-f", "dump --rpc"}).ok()) << "criu has given up";
  source.freeze();
  auto dumped = dump_apart(source, pid);
  EXPECT_TRUE(dumped.ok()) << dumped.error().message();
  source.thaw();
  EXPECT_TRUE(counts(source));
}

// The host has some huge pages, until the test ends.
class HugePages {
 public:
  HugePages() : before_(*read_file(kFile)) {
    EXPECT_TRUE(write_control_file(kFile, "16").ok()) << "no huge pages to be had";
  }
  ~HugePages() { EXPECT_TRUE(write_control_file(kFile, before_).ok()); }
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

 private:
  static constexpr const char* kFile = "/proc/sys/vm/nr_hugepages";
  const std::string before_;
};

// The host has some swap, until the test ends, if it can be had in the current directory.
class Swap {
 public:
  Swap() {
    const std::string make =
        "truncate -s 0 swap && dd if=/dev/zero of=swap bs=1M count=16 && "
        "chmod 600 swap && mkswap swap && swapon swap";
    on_ = run_shell(make);
    if (!on_) std::cout << "no swap can be had here: nothing is paged out" << std::endl;
  }
  ~Swap() {
    EXPECT_TRUE(!on_ || run_shell("swapoff swap"));
    ::unlink("swap");
  }
  Swap(const Swap&) = delete;
  Swap& operator=(const Swap&) = delete;
  bool on() const { return on_; }

 private:
  static bool run_shell(const std::string& command) {
    ChildOptions options;
    options.argv = {"sh", "-c", command};
    const auto result = run_child_blocking(std::move(options));
    return result.ok() && result->ok();
  }
  bool on_ = false;
};

uint64_t swapped_bytes(const TestNode& node) {
  uint64_t kib = 0;
  for (const pid_t member : node.members()) {
    const auto status = read_file("/proc/" + std::to_string(member) + "/status");
    const size_t at = status.ok() ? status->find("\nVmSwap:") : std::string::npos;
    if (at != std::string::npos) kib += std::strtoull(status->c_str() + at + 8, nullptr, 10);
  }
  return kib << 10;
}

// Private, shared, locked, protected, swapped, of a file, huge; of a parent and its child.
TEST_F(MemoryApartTest, EveryKindOfMemoryArrives) {
  const HugePages huge_pages;
  const Swap swap;
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "memory");
  ASSERT_TRUE(eventually([&] { return source.state().ready == 2; }));
  EXPECT_EQ(swapped_bytes(source) > 0, swap.on());
  const auto held = move(source, pid, target);
  ASSERT_NE(held, nullptr);
  ASSERT_TRUE(resume(*held).ok());
  target.state().order = 1;
  EXPECT_TRUE(eventually([&] { return target.state().answer == 2; }));
  EXPECT_EQ(target.state().result, 0) << "wrong words of the parent";
  EXPECT_EQ(target.state().clock_ns, 0) << "wrong words of the child";
  ASSERT_TRUE(await_pager());
  EXPECT_TRUE(pager_->ok()) << pager_->describe();
}

// Nobody asks for it, and it comes nevertheless.
TEST_F(MemoryApartTest, WhatIsNotTouchedIsFilledInAndTheStoreEmptied) {
  TestNode source("source");
  TestNode target("target");
  const auto held = move(source, start(source, "big"), target);
  ASSERT_NE(held, nullptr);
  ASSERT_TRUE(resume(*held).ok());
  ASSERT_TRUE(await_pager());
  EXPECT_TRUE(pager_->ok()) << pager_->describe();
  auto outcome = read_file(target.site(kImages).dir + "/" + mover::kPagerOutcome);
  ASSERT_TRUE(outcome.ok());
  ASSERT_TRUE(outcome->starts_with(std::string(mover::kComplete) + "\n")) << *outcome;
  auto done = parse_json(outcome->substr(outcome->find('\n')));
  ASSERT_TRUE(done.ok());
  EXPECT_GT(done->at("installed_bytes"), 60 << 20);
  EXPECT_TRUE(counts(target));
  for (const pid_t member : target.members()) {
    const auto smaps = read_file("/proc/" + std::to_string(member) + "/smaps");
    EXPECT_EQ(smaps->find(" um "), std::string::npos) << "nobody watches its faults any more";
  }
}

TEST_F(MemoryApartTest, AHeldTreeThatIsKilledEndsItsPager) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "big");
  const auto held = move(source, pid, target);
  ASSERT_NE(held, nullptr);
  ASSERT_TRUE(kill(*held).ok());
  EXPECT_TRUE(await_pager());
  source.thaw();
  EXPECT_TRUE(counts(source)) << "the source goes on";
}

TEST_F(MemoryApartTest, APagerThatNobodyWantsEnds) {
  TestNode target("target");
  ASSERT_TRUE(make_dirs(target.site(kImages).dir).ok());
  start_pager(target);
  words_.reset();
  EXPECT_TRUE(await_pager());
}

}  // namespace
}  // namespace dvs::testing
