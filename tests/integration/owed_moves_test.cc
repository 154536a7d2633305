// Memory that follows a process after it runs at the target, and whoever dies meanwhile.
#include <signal.h>

#include <filesystem>
#include <thread>

#include "memory_fixture.h"
#include "mover/store.h"

namespace dvs::integration {
namespace {

class OwedMoves : public MemoryTest {
 protected:
  void SetUp() override {
    MemoryTest::SetUp();
    via_ = "n3";
    make_dc("lab");
  }
  // 94 MiB, of which it uses little: the rest takes a while.
  Process start_slow() {
    how_ = {{"algorithm", "on-demand"}, {"bandwidth", 24 << 20}};
    return start_writer(8000);
  }
  // Moves it to n2. While memory is owed, as soon as it runs there, `meanwhile` runs.
  Json move_and(const Process& process, const std::function<void()>& meanwhile) {
    std::thread other;
    const Json record = move(process, "n2", [&](const std::string& phase) {
      if (phase == "fill") other = std::thread(meanwhile);
    });
    EXPECT_TRUE(other.joinable()) << "it never ran there: " << record;
    if (other.joinable()) other.join();
    return record;
  }
  // The process is frozen on n1 only for as long as somebody is owed its memory.
  bool is_kept_on(const std::string& name) { return runs_on(name, "programs/memory"); }
};

constexpr const char* kCompress[] = {"auto", "lz4", "zstd", "none"};

TEST_F(OwedMoves, EveryWordIsRightWhenItFollowsLater) {
  const Process writer = start_writer(4000);
  const char* const nodes[] = {"n2", "n3", "n1"};
  for (int i = 0; i < 12; ++i) {
    const bool ahead = i % 2 == 1;
    how_ = {{"algorithm", ahead ? "non-freezing" : "on-demand"}, {"compress", kCompress[i % 4]}};
    const Json record = move(writer, nodes[i % 3]);
    ASSERT_EQ(record["state"], "committed") << record;
    EXPECT_EQ(record["memory"], "here") << record;
    EXPECT_EQ(record["rounds"] == 0, !ahead) << record;
    if (!ahead) {
      EXPECT_GT(record["owed_bytes"], 40 << 20) << record;
      EXPECT_GT(record["faults"], 0);
    }
    expect_writes(writer);
  }
}

TEST_F(OwedMoves, WhenNothingIsOwedTheSourceMayBePoweredOff) {
  const Process writer = start_slow();
  how_.erase("bandwidth");
  const Json record = move(writer, "n2");
  EXPECT_EQ(record["memory"], "here") << record;
  EXPECT_FALSE(is_kept_on("n1")) << "freed before the migration is said to be over";
  power_off("n1");
  expect_writes(writer);
  power_on("n1");
}

TEST_F(OwedMoves, ItRunsLongBeforeItsMemoryHasCome) {
  const Process writer = start_slow();
  const Json record = move_and(writer, [&] {
    EXPECT_TRUE(is_kept_on("n1"));
    expect_answers(writer);
    const auto list = call("GET", "/v1/migrations");
    ASSERT_OK(list);
    const Json& newest = list->at("migrations").at(0);
    EXPECT_EQ(newest.at("memory"), "owed");
    EXPECT_TRUE(eventually([&] {
      const auto now = call("GET", "/v1/migrations/" + newest.at("id").get<std::string>());
      const Json progress = now.ok() ? now->value("progress", Json()) : Json();
      return progress.contains("seconds_left") && progress["percent"] < 100 &&
             progress["seconds_left"] > 0;
    })) << "how long it will take";
  });
  EXPECT_EQ(record["memory"], "here") << record;
  EXPECT_GT(record["phases"]["fill"], 500.0) << "the bandwidth is for what nobody waits for";
  EXPECT_LT(record["frozen_ms"], 500.0);
  EXPECT_GT(record["faults"], 0);
  EXPECT_FALSE(is_kept_on("n1"));
  expect_writes(writer);
}

TEST_F(OwedMoves, ADvsdThatDiesWhileMemoryIsOwedIsWaitedFor) {
  const Process writer = start_slow();
  for (const char* dying : {"n1", "n2"}) {
    const pid_t dvsd = node(dying).dvsd_pid;
    const Json record = move_and(writer, [&] { kill_dvsd(dying); });
    EXPECT_EQ(record["memory"], "here") << dying << ": " << record;
    EXPECT_EQ(record["state"], "committed");
    await_dvsd(dying, dvsd);
    EXPECT_TRUE(eventually([&] { return !is_kept_on("n1"); })) << dying;
    expect_writes(writer);
    how_ = {{"algorithm", "total-copy"}};
    EXPECT_TRUE(eventually([&] { return migrate(writer, "n1").ok(); }));
    how_ = {{"algorithm", "on-demand"}, {"bandwidth", 24 << 20}};
  }
}

// What it has bound and given back since it runs here is not undone.
TEST_F(OwedMoves, WhoBindsWhileADvsdDiesIsNotDisturbed) {
  how_ = {{"algorithm", "non-freezing"}, {"bandwidth", 24 << 20}, {"max_downtime_ms", 1}};
  const Process binder = run("lab", "n1", 5, {"binder", "8000", "20"});
  ASSERT_TRUE(wait_log(binder, "bound 20"));
  const pid_t dvsd = node("n2").dvsd_pid;
  const Json record = move_and(binder, [&] {
    EXPECT_TRUE(wait_log(binder, "bound ", log(binder).size()));
    kill_dvsd("n2");
  });
  EXPECT_EQ(record["memory"], "here") << record;
  await_dvsd("n2", dvsd);
  EXPECT_TRUE(wait_log(binder, "bound ", log(binder).size()));
  EXPECT_EQ(log(binder).find("BAD"), std::string::npos) << log(binder);
}

TEST_F(OwedMoves, ALinkThatBreaksIsWaitedFor) {
  const Process writer = start_slow();
  const Json record = move_and(writer, [&] {
    set_network("n1", false);
    std::this_thread::sleep_for(1s);  // how long it is broken
    set_network("n1", true);
  });
  EXPECT_EQ(record["memory"], "here") << record;
  await_links();
  expect_writes(writer);
}

TEST_F(OwedMoves, WhoWaitsForTooLongIsEndedAndTheRecordSaysWhy) {
  const Process writer = start_slow();
  how_["patience_ms"] = 1500;
  const Json record = move_and(writer, [&] { set_network("n1", false); });
  EXPECT_EQ(record["state"], "committed");
  EXPECT_EQ(record["memory"], "lost") << record;
  EXPECT_NE(record["reason"].get<std::string>().find("no page came for 1500 ms"), std::string::npos)
      << record;
  set_network("n1", true);
  await_links();
  EXPECT_TRUE(eventually([&] { return copies(writer) == 0; })) << "nor is its frozen copy kept";
  EXPECT_EQ(log(writer).find("BAD"), std::string::npos) << "it never sees memory that is wrong";
  EXPECT_TRUE(eventually([&] { return place(writer).first.empty(); }));
}

TEST_F(OwedMoves, WhoseMemoryIsLostWithItsNodeIsEnded) {
  const Process writer = start_slow();
  how_["patience_ms"] = 1500;
  const Json record = move_and(writer, [&] { power_off("n1"); });
  EXPECT_EQ(record["memory"], "lost") << record;
  EXPECT_NE(record["reason"].get<std::string>().find("its memory could not be had"),
            std::string::npos)
      << record;
  EXPECT_TRUE(eventually([&] { return copies(writer) == 0; }));
  EXPECT_EQ(log(writer).find("BAD"), std::string::npos) << "it never sees memory that is wrong";
  power_on("n1");
}

TEST_F(OwedMoves, WhoIsLostWithItsNodeIsNotKept) {
  const Process writer = start_slow();
  how_["patience_ms"] = 500;
  const Json record = move_and(writer, [&] { power_off("n2"); });
  EXPECT_EQ(record["memory"], "lost") << record;
  EXPECT_NE(record["reason"].get<std::string>().find("node n2 was lost"), std::string::npos)
      << record;
  EXPECT_TRUE(eventually([&] { return !is_kept_on("n1"); }));
  power_on("n2");
}

// Nobody has missed it: it is back within its lease, and has to say so itself.
TEST_F(OwedMoves, ANodeThatComesBackWithNothingSaysSo) {
  const Process writer = start_slow();
  how_["patience_ms"] = 600'000;
  const Json record = move_and(writer, [&] {
    power_off("n2");
    power_on("n2");
  });
  EXPECT_EQ(record["memory"], "lost") << record;
  EXPECT_NE(record["reason"].get<std::string>().find("node n2 was lost"), std::string::npos)
      << record;
  EXPECT_TRUE(eventually([&] { return !is_kept_on("n1"); }));
  EXPECT_EQ(copies(writer), 0);
}

// Nobody is left who would wait for it, or keeps it.
TEST_F(OwedMoves, WhenBothNodesAreLostTheRecordSaysSo) {
  const Process writer = start_slow();
  how_["patience_ms"] = 500;
  const Json record = move_and(writer, [&] {
    power_off("n1");
    power_off("n2");
  });
  EXPECT_EQ(record["memory"], "lost") << record;
  ASSERT_OK(local::join(dir(), "n1"));
  power_on("n2");
}

TEST_F(OwedMoves, RolledBackNothingIsOwed) {
  const Process writer = start_slow();
  for (const auto& [name, fault] :
       {std::pair("n1", "dump"), std::pair("n1", "transfer"), std::pair("n2", "restore")}) {
    arm(name, fault);
    const Json record = move(writer, "n2");
    EXPECT_EQ(record["state"], "rolledback") << fault;
    EXPECT_EQ(record["memory"], "here") << fault;
    await_links();
    expect_writes(writer);
  }
  must_move(writer, "n2");
  expect_writes(writer);
}

// Who has ended is owed nothing, however long what it was owed would have taken.
TEST_F(OwedMoves, WhoEndsBeforeItsMemoryHasComeIsDone) {
  const Process writer = start_slow();
  how_["bandwidth"] = 1 << 20;
  const Json record = move_and(writer, [&] { signal(writer, SIGKILL); });
  EXPECT_EQ(record["memory"], "here") << record;
  EXPECT_TRUE(eventually([&] { return copies(writer) == 0; }));
  EXPECT_FALSE(is_kept_on("n1"));
}

// Nor does it matter that nothing comes.
TEST_F(OwedMoves, WhoEndsWhileNothingComesIsDone) {
  const Process writer = start_slow();
  const Json record = move_and(writer, [&] {
    set_network("n1", false);
    signal(writer, SIGKILL);
  });
  EXPECT_EQ(record["memory"], "here") << record;
  set_network("n1", true);
  await_links();
  EXPECT_TRUE(eventually([&] { return copies(writer) == 0; })) << "nor is it kept on n1";
}

TEST_F(OwedMoves, AutoGoesOnDemandWhenRoundsDoNotHelp) {
  const Process writer = start_writer(8000);
  how_ = {{"algorithm", "auto"}, {"max_downtime_ms", 1}, {"bandwidth", 40 << 20}};
  const Json record = move(writer, "n2");
  EXPECT_EQ(record["algorithm"], "on-demand") << record;
  EXPECT_GE(record["rounds"], 2);
  EXPECT_NE(record["why"].get<std::string>().find("rounds do not help"), std::string::npos)
      << record;
  EXPECT_GT(record["owed_bytes"], 0);
  EXPECT_EQ(record["memory"], "here");
  expect_writes(writer);
}

// ---- a third node keeps the memory ----

TEST_F(OwedMoves, WithAFileServerTheSourceIsFreeAtOnce) {
  const Process writer = start_writer(8000);
  how_ = {{"algorithm", "file-server"}, {"file_server", "n3"}, {"bandwidth", 64 << 20}};
  const Json record = move_and(writer, [&] {
    EXPECT_TRUE(eventually([&] { return !is_kept_on("n1"); }, 1s));
    power_off("n1");
  });
  EXPECT_EQ(record["memory"], "here") << record;
  EXPECT_GE(record["rounds"], 2);
  EXPECT_GT(record["owed_bytes"], 80 << 20);
  expect_writes(writer);
  power_on("n1");
}

TEST_F(OwedMoves, AFileServerThatRestartsIsWaitedFor) {
  const Process writer = start_writer(8000);
  how_ = {{"algorithm", "file-server"}, {"file_server", "n3"}, {"bandwidth", 64 << 20}};
  via_ = "n1";
  const pid_t dvsd = node("n3").dvsd_pid;
  const Json record = move_and(writer, [&] { kill_dvsd("n3"); });
  EXPECT_EQ(record["memory"], "here") << record;
  await_dvsd("n3", dvsd);
  expect_writes(writer);
  const std::string kept = path_on("n3", "/run/dvs");
  EXPECT_TRUE(eventually([&] {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kept)) {
      if (entry.path().filename() == mover::kStoreName) return false;
    }
    return true;
  })) << "it keeps nothing any more";
}

TEST_F(OwedMoves, AFileServerMustBeAThirdNode) {
  const Process writer = start_writer(100);
  for (const char* server : {"n1", "n2"}) {
    how_ = {{"algorithm", "file-server"}, {"file_server", server}};
    EXPECT_REFUSED(migrate(writer, "n2"), Code::kInvalid, "third node");
  }
  how_ = {{"algorithm", "file-server"}};
  EXPECT_REFUSED(migrate(writer, "n2"), Code::kInvalid, "needs a node");
  how_ = {{"algorithm", "pre-copy"}, {"file_server", "n3"}};
  EXPECT_REFUSED(migrate(writer, "n2"), Code::kInvalid, "uses no file server");
  how_ = {{"file_server", "n9"}};
  EXPECT_REFUSED(migrate(writer, "n2"), Code::kNotFound, "n9");
}

}  // namespace
}  // namespace dvs::integration
