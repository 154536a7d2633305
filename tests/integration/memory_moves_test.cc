// Memory is right wherever a process goes, however it is copied and whatever happens meanwhile.
#include <signal.h>

#include <thread>

#include "memory_fixture.h"

namespace dvs::integration {
namespace {

class MemoryMoves : public MemoryTest {
 protected:
  // SIGKILL to what fills the memory of this cluster's processes, not to its guardian.
  static int kill_pager_workers() {
    const auto command_of = [](const std::string& pid) {
      const auto text = read_file("/proc/" + pid + "/cmdline");
      return text.ok() ? *text : "";
    };
    int killed = 0;
    const auto names = list_dir("/proc");
    for (const std::string& name : names.ok() ? *names : std::vector<std::string>{}) {
      const std::string command = command_of(name);
      const bool ours = command.find("dvs-pager") != std::string::npos &&
                        command.find("/" + cluster() + "/") != std::string::npos;
      const auto stat = ours ? read_file("/proc/" + name + "/stat") : Result<std::string>("");
      if (!ours || !stat.ok()) continue;
      const std::string parent = stat->substr(stat->rfind(')') + 4);
      if (command_of(parent.substr(0, parent.find(' '))) != command) continue;
      killed += ::kill(std::stoi(name), SIGKILL) == 0 ? 1 : 0;
    }
    return killed;
  }

  // Runs while copying goes on: cancels it.
  void cancel_open_migration() {
    auto list = call("GET", "/v1/migrations");
    ASSERT_OK(list);
    const std::string id = list->at("migrations").at(0).at("id");
    EXPECT_OK(call("POST", "/v1/migrations/" + id + "/cancel", Json::object()));
  }
};

constexpr const char* kCompress[] = {"auto", "lz4", "zstd", "none"};

TEST_F(MemoryMoves, EveryWordIsRightAfterEachMove) {
  make_dc("lab");
  const Process writer = start_writer(4000);  // 47 MiB
  const char* const nodes[] = {"n2", "n3", "n1"};
  for (int i = 0; i < 12; ++i) {
    how_ = {{"algorithm", i % 3 == 2 ? "total-copy" : "pre-copy"}, {"compress", kCompress[i % 4]}};
    const Json record = move(writer, nodes[i % 3]);
    ASSERT_EQ(record["state"], "committed") << record;
    EXPECT_EQ(record["algorithm"], how_["algorithm"]);
    EXPECT_EQ(record["rounds"] == 0, i % 3 == 2) << record;
    EXPECT_GT(record["memory_bytes"], 40 << 20);
    EXPECT_LT(record["image_bytes"], 2 << 20) << "memory is not in the engine's images";
    expect_writes(writer);
  }
}

TEST_F(MemoryMoves, AutoCopiesAheadWhatIsLargeAndSaysWhy) {
  make_dc("lab");
  const Process large = start_writer(4000);
  const Json copied = move(large, "n2");
  EXPECT_EQ(copied["algorithm"], "pre-copy");
  EXPECT_NE(copied["why"].get<std::string>().find("frozen after"), std::string::npos) << copied;
}

TEST_F(MemoryMoves, CanceledWhileItCopiesItGoesOnUntouched) {
  make_dc("lab");
  const Process writer = start_writer(20'000);  // 234 MiB
  how_ = {{"algorithm", "pre-copy"}, {"bandwidth", 1 << 20}};
  std::thread canceler;
  const Json record = move(writer, "n2", [&](const std::string& phase) {
    if (phase == "copy") canceler = std::thread([this] { cancel_open_migration(); });
  });
  canceler.join();
  EXPECT_EQ(record["state"], "rolledback");
  EXPECT_EQ(record["reason"], "canceled");
  EXPECT_EQ(record["frozen_ms"], 0.0) << "it never stopped";
  EXPECT_EQ(place(writer).first, "n1");
  EXPECT_TRUE(eventually([&] { return !is_tracked(writer); })) << "nobody waits for the rest";
  expect_writes(writer);
  how_.erase("bandwidth");
  must_move(writer, "n2");
  expect_writes(writer);
}

TEST_F(MemoryMoves, TimeForCopyingIsOver) {
  make_dc("lab");
  const Process writer = start_writer(20'000);
  how_ = {{"algorithm", "pre-copy"}, {"timeout_ms", 60}};
  const Json given_up = move(writer, "n2");
  EXPECT_EQ(given_up["state"], "rolledback");
  how_["on_timeout"] = "force";
  const Json forced = move(writer, "n2");
  EXPECT_EQ(forced["state"], "committed") << forced;
  EXPECT_EQ(forced["rounds"], 1);
  EXPECT_NE(forced["why"].get<std::string>().find("time allowed"), std::string::npos) << forced;
  expect_writes(writer);
}

TEST_F(MemoryMoves, CopyingTakesNoMoreThanTheBandwidthItHas) {
  make_dc("lab");
  const Process writer = start_writer(4000);  // 47 MiB
  how_ = {{"algorithm", "pre-copy"}, {"bandwidth", 100 << 20}};
  const Json record = move(writer, "n2");
  EXPECT_EQ(record["state"], "committed") << record;
  EXPECT_GT(record["phases"]["copy"], 430.0) << "47 MiB at 100 MiB/s";
  how_["bandwidth"] = 1;
  EXPECT_REFUSED(migrate(writer, "n1"), Code::kInvalid, "64 KiB");
  how_ = {{"compress", "gzip"}};
  EXPECT_REFUSED(migrate(writer, "n1"), Code::kInvalid, "zstd");
  expect_writes(writer);
}

TEST_F(MemoryMoves, RolledBackAfterCopyingItsMemoryIsWhatItWas) {
  make_dc("lab");
  const Process writer = start_writer(4000);
  how_ = {{"algorithm", "pre-copy"}};
  for (const auto& [node, fault] :
       {std::pair("n1", "dump"), std::pair("n1", "transfer"), std::pair("n2", "restore")}) {
    arm(node, fault);
    const Json record = move(writer, "n2");
    EXPECT_EQ(record["state"], "rolledback") << fault;
    EXPECT_TRUE(eventually([&] { return !is_tracked(writer); })) << fault;
    expect_writes(writer);
    await_links();
  }
  must_move(writer, "n2");
  expect_writes(writer);
}

TEST_F(MemoryMoves, ADvsdThatDiesWhileCopyingChangesNothing) {
  make_dc("lab");
  const Process writer = start_writer(20'000);
  via_ = "n3";
  how_ = {{"algorithm", "pre-copy"}};
  for (const char* dying : {"n1", "n2"}) {
    const pid_t dvsd = node(dying).dvsd_pid;
    const Json record = move(writer, "n2", [&](const std::string& phase) {
      if (phase == "copy") kill_dvsd(dying);
    });
    EXPECT_EQ(record["state"], "rolledback") << dying;
    await_dvsd(dying, dvsd);
    await_links();
    EXPECT_TRUE(eventually([&] { return place(writer).first == "n1" && !is_tracked(writer); }));
    expect_writes(writer);
  }
  must_move(writer, "n2");
  expect_writes(writer);
}

TEST_F(MemoryMoves, WhoEndsWhileItIsCopiedIsNotMoved) {
  make_dc("lab");
  const Process writer = start_writer(20'000);
  how_ = {{"algorithm", "pre-copy"}};
  const Json record = move(writer, "n2", [&](const std::string& phase) {
    if (phase == "copy") signal(writer, SIGKILL);
  });
  EXPECT_EQ(record["state"], "rolledback");
  EXPECT_NE(record["reason"], "");
  EXPECT_TRUE(eventually([&] { return copies(writer) == 0; }));
  EXPECT_EQ(place(writer).first, "");
}

// Its memory goes on arriving while the dvsd that took it in is dead. Moved on before that is over
// it would lose what has not come.
TEST_F(MemoryMoves, MemoryThatIsArrivingIsNotMovedOn) {
  make_dc("lab");
  const Process writer = start_writer(40'000);  // 470 MiB
  via_ = "n3";
  how_ = {{"algorithm", "pre-copy"}};
  const pid_t dvsd = node("n2").dvsd_pid;
  move(writer, "n2", [&](const std::string& phase) {
    if (phase == "fill") kill_dvsd("n2");
  });
  await_dvsd("n2", dvsd);
  how_ = {{"algorithm", "total-copy"}};
  EXPECT_TRUE(eventually([&] {
    const auto record = migrate(writer, "n3");
    if (record.ok()) return record->at("state") == "committed";
    EXPECT_EQ(record.error().code(), Code::kConflict) << why(record);
    return false;
  }));
  expect_writes(writer);
}

// It may do so while its memory is copied, which takes seconds here; once it is stopped, it waits.
TEST_F(MemoryMoves, AProcessThatBindsAndUnbindsIsNotDisturbed) {
  make_dc("lab");
  const Process binder = run("lab", "n1", 5, {"binder", "8000", "20"});
  ASSERT_TRUE(wait_log(binder, "bound 20"));
  how_ = {{"algorithm", "pre-copy"}, {"bandwidth", 24 << 20}};
  for (const char* target : {"n2", "n3", "n1"}) {
    size_t bound_at_freeze = 0;
    const size_t from = log(binder).size();
    const Json record = move(binder, target, [&](const std::string& phase) {
      if (phase == "freeze") bound_at_freeze = log(binder).size();
    });
    EXPECT_EQ(record["state"], "committed") << record;
    EXPECT_GT(bound_at_freeze, from) << "while it was copied";
    EXPECT_TRUE(wait_log(binder, "bound ", log(binder).size())) << "at " << target;
  }
  EXPECT_EQ(log(binder).find("BAD"), std::string::npos) << log(binder);
}

// What it has not got would be zeros to it.
TEST_F(MemoryMoves, WhoseMemoryCannotBeHadIsEnded) {
  make_dc("lab");
  const Process writer = start_writer(60'000);  // 700 MiB
  how_ = {{"algorithm", "pre-copy"}};
  bool killed = false;
  const Json record = move(writer, "n2", [&](const std::string& phase) {
    if (phase == "fill") killed = kill_pager_workers() > 0;
  });
  ASSERT_TRUE(killed);
  EXPECT_EQ(record["state"], "committed");
  EXPECT_TRUE(eventually([&] { return copies(writer) == 0; }));
  EXPECT_EQ(log(writer).find("BAD"), std::string::npos) << log(writer);
}

}  // namespace
}  // namespace dvs::integration
