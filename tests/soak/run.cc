#include "soak/run.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <thread>

#include "base/clock.h"

namespace dvs::soak {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr std::chrono::seconds kSettleLimit{60};
constexpr std::chrono::seconds kStillLimit{20};
constexpr std::chrono::seconds kQuiet{2};
constexpr int64_t kProgressEvery = 10 * kSecond;
constexpr uint64_t kWarmUpRounds = 10;
constexpr int kTimeoutMs = 5'000;
constexpr int kNoAnswerMs = 50'000;
constexpr uint64_t kSlowBandwidth = 8 << 20;

double ms_since(int64_t ns) { return static_cast<double>(realtime_ns() - ns) / 1e6; }

std::string name_of(const FaultPlan& fault) {
  return fault.kind == Trouble::kPoint ? std::string(fault.point->name)
                                       : kTroubles[static_cast<size_t>(fault.kind)];
}

// Numbers and names of migrations left out, so that the like can be counted.
std::string kind_of(const std::string& message) {
  std::string kind;
  for (const char c : message.substr(0, 100)) {
    if (c >= '0' && c <= '9') {
      if (!kind.ends_with('#')) kind += '#';
    } else {
      kind += c;
    }
  }
  return kind;
}

}  // namespace

Run::Run(Cluster& cluster, Crew& crew, const Options& options)
    : cluster_(cluster), crew_(crew), options_(options), observer_(cluster, crew.servers()) {}

void Run::wrong(const std::string& what) {
  const std::lock_guard lock(mutex_);
  tally_.wrong.push_back(plan_ + ": " + what);
}

bool Run::failed() const {
  const std::lock_guard lock(mutex_);
  return !tally_.wrong.empty();
}

bool Run::is_over() const {
  const bool late = options_.minutes > 0 && tally_.seconds >= options_.minutes * 60.0;
  return late || failed() || tally_.committed() + tally_.rolled_back() >= options_.migrations;
}

bool Run::all() {
  began_ns_ = realtime_ns();
  warm_up();
  for (uint64_t number = kWarmUpRounds; !is_over(); ++number) {
    one_round(plan_round(options_, number));
  }
  plan_ = "at the end";
  if (!failed()) end_growth();
  if (!failed()) {
    const Status ended = crew_.end_clients();
    if (!ended.ok()) wrong(ended.error().message());
  }
  update();
  return !failed();
}

// Load without migrations, then migrations without faults: what is held after that is held for
// good.
void Run::warm_up() {
  plan_ = "before the first migration";
  if (!await_settled()) return;
  crew_.checker().take_longest_gap_ms();
  std::this_thread::sleep_for(kQuiet);
  account("nothing");
  for (uint64_t number = 0; number < kWarmUpRounds && !failed(); ++number) {
    Round round = plan_round(options_, number);
    round.fault = {};
    one_round(round);
  }
  if (!failed()) begin_growth();
}

void Run::one_round(Round round) {
  plan_ = describe(round);
  cluster_.directory().forget_migrations();
  disturbed_ = false;
  if (round.fault.kind == Trouble::kNodeOff && !choose_node_to_lose(round)) round.fault = {};
  std::vector<Leg> first;
  for (size_t i = 0; i < round.journeys.size(); ++i) first.push_back(first_leg(round, i));
  const Outcome outcome = let_move(round, first);
  settle(round, outcome);
  avoided_.clear();
  update();
}

// One without a server; its client ends in good order.
bool Run::choose_node_to_lose(Round& round) {
  for (size_t i = 0; i < cluster_.nodes().size(); ++i) {
    const std::string& node = cluster_.nodes()[(round.fault.dice + i) % cluster_.nodes().size()];
    const auto& servers = crew_.servers();
    const bool used = std::any_of(servers.begin(), servers.end(), [&](const ServerProcess& server) {
      return cluster_.place(server.endpoint) == node;
    });
    if (used) continue;
    avoided_ = node;
    const Status ended = crew_.end_client(node);
    if (!ended.ok()) wrong(ended.error().message());
    return ended.ok();
  }
  ++tally_.missed[name_of(round.fault)];
  return false;
}

std::vector<std::string> Run::nodes_left() const {
  std::vector<std::string> left = cluster_.nodes();
  std::erase(left, avoided_);
  return left;
}

// On to the next node of the ring; now and then to another one.
Leg Run::choose_leg(size_t server, const std::string& algorithm, uint32_t dice) const {
  const std::vector<std::string> left = nodes_left();
  const size_t count = left.size();
  Leg leg;
  leg.algorithm = algorithm;
  leg.source = cluster_.place(crew_.servers()[server].endpoint);
  const auto at =
      static_cast<size_t>(std::find(left.begin(), left.end(), leg.source) - left.begin());
  const size_t step = dice % 4 == 0 ? 1 + (dice >> 8) % (count - 1) : 1;
  leg.target = left[(at + step) % count];
  leg.asked = left[(dice >> 16) % count];
  if (algorithm != "file-server") return leg;
  const auto third = std::find_if(left.begin(), left.end(), [&](const std::string& node) {
    return node != leg.source && node != leg.target;
  });
  if (third == left.end()) leg.algorithm = "pre-copy";
  if (third != left.end()) leg.file_server = *third;
  return leg;
}

Leg Run::first_leg(const Round& round, size_t server) const {
  const Journey& journey = round.journeys[server];
  Leg leg = choose_leg(server, journey.algorithms[0], journey.dice);
  leg.slow = round.fault.kind == Trouble::kPoint && round.fault.server == server &&
             wants_slow(*round.fault.point);
  return leg;
}

Outcome Run::let_move(const Round& round, const std::vector<Leg>& first) {
  Leg aimed = first[round.fault.server];
  if (round.fault.kind == Trouble::kNodeOff) aimed.source = avoided_;
  Troublemaker trouble(cluster_, round.fault, aimed);
  if (const Status armed = trouble.arm(); !armed.ok()) wrong(armed.error().message());
  std::atomic<size_t> travelling = first.size();
  std::vector<std::thread> threads;
  for (size_t i = 0; i < first.size(); ++i) {
    threads.emplace_back([&, i] {
      travel(i, round.journeys[i], first[i]);
      --travelling;
    });
  }
  auto made = trouble.make([&] { return travelling == 0; });
  disturbed_ = made.ok() && made->done;
  if (disturbed_) recover(round, *made);
  for (std::thread& thread : threads) thread.join();
  if (!made.ok()) wrong(made.error().message());
  const Outcome outcome = made.ok() ? *made : Outcome();
  if (round.fault.kind == Trouble::kPoint && !outcome.done) {
    if (const Status safe = trouble.disarm(); !safe.ok()) wrong(safe.error().message());
  }
  return outcome;
}

// After a fault nothing is begun any more: it shall be seen how long the recovery takes.
void Run::travel(size_t server, const Journey& journey, const Leg& first) {
  std::this_thread::sleep_for(std::chrono::microseconds(journey.starts_after_us));
  for (size_t i = 0; i < journey.algorithms.size() && !disturbed_; ++i) {
    const auto dice = static_cast<uint32_t>(mix(journey.dice + i));
    migrate(server, i == 0 ? first : choose_leg(server, journey.algorithms[i], dice));
  }
}

void Run::migrate(size_t server, const Leg& leg) {
  Json body = {{"dc", kDc},
               {"endpoint", crew_.servers()[server].endpoint},
               {"target", leg.target},
               {"algorithm", leg.algorithm},
               {"timeout_ms", kTimeoutMs}};
  if (!leg.file_server.empty()) body["file_server"] = leg.file_server;
  if (leg.slow) body["bandwidth"] = kSlowBandwidth;
  const int64_t began_ns = realtime_ns();
  const auto end = cluster_.call(leg.asked, "POST", "/v1/migrations", body);
  const double took_ms = ms_since(began_ns);
  if (took_ms > kNoAnswerMs) wrong("a request for a migration took a minute");
  const std::lock_guard lock(mutex_);
  longest_request_ms_ = std::max(longest_request_ms_, took_ms);
  if (end.ok()) return;  // the record tells
  ++tally_.refused[kind_of(end.error().message())];
}

bool Run::await_settled() {
  std::string open;
  const auto is_bad = [&] { return !crew_.checker().content(); };
  const auto is_settled = [&] {
    open = observer_.what_is_open();
    return open.empty() || is_bad();
  };
  if (!await(is_settled, kSettleLimit)) {
    wrong(fmt::format("not over after {} s: {}", kSettleLimit.count(), open));
    return false;
  }
  const int64_t now_ns = realtime_ns();
  const auto is_answered = [&] { return crew_.checker().answered_since(now_ns) || is_bad(); };
  if (await(is_answered, kSettleLimit)) return !is_bad();
  wrong("a client has no answer:\n" + crew_.checker().describe());
  return false;
}

// While those who asked for the migrations may still wait for their answers.
void Run::recover(const Round& round, const Outcome& outcome) {
  observer_.leave_out(outcome.node_off);
  if (!await_settled()) return;
  tally_.recovery_ms[name_of(round.fault)].push_back(ms_since(outcome.at_ns));
  ++tally_.faults;
}

void Run::settle(const Round& round, const Outcome& outcome) {
  const bool faulty = round.fault.kind != Trouble::kNone;
  const std::string name = name_of(round.fault);
  if (failed() || !await_settled()) return;
  if (faulty && !outcome.done) ++tally_.missed[name];
  account(faulty && outcome.done ? name : "a migration");
  if (!avoided_.empty()) start_again(avoided_);
  if (!faulty || failed()) return;
  const Status whole = cluster_.await_whole();
  if (!whole.ok()) wrong(whole.error().message());
  cluster_.take_fired();
}

void Run::start_again(const std::string& node) {
  observer_.leave_out("");
  const int64_t began_ns = realtime_ns();
  Status back = local::join(cluster_.dir(), node);
  if (back.ok()) back = cluster_.await_whole();
  const bool started = back.ok() && await(
                                        [&] {
                                          back = crew_.start_client(node);
                                          return back.ok();
                                        },
                                        kStillLimit);
  if (!started) return wrong("after power-on: " + back.error().message());
  if (!await_settled()) return;
  tally_.recovery_ms["node on again"].push_back(ms_since(began_ns));
  crew_.checker().take_longest_gap_ms();
}

void Run::account(const std::string& cause) {
  for (const auto& [id, record] : cluster_.directory().migrations()) {
    const bool named = record.why.starts_with("as asked for") || record.algorithm.empty();
    Tally::Outcomes& outcomes = tally_.migrations[named ? record.algorithm : "auto"];
    const bool committed = record.state == MigrationState::kCommitted;
    ++(committed ? outcomes.committed : outcomes.rolled_back);
    if (record.memory == OwedMemory::kLost) wrong("memory is lost: " + record.reason);
    if (!committed && cause == "a migration") ++tally_.rolled_back_unasked[kind_of(record.reason)];
  }
  tally_.gaps_ms[cause].push_back(crew_.checker().take_longest_gap_ms());
  if (const double ms = std::exchange(longest_request_ms_, 0); ms > 0) {
    tally_.requests_ms[cause].push_back(ms);
  }
}

void Run::begin_growth() {
  const auto still = [&] {
    Footprint now = take_footprint(cluster_);
    const bool same = now["processes"] == footprint_["processes"] &&
                      now["files below /run/dvs"] == footprint_["files below /run/dvs"] &&
                      now["descriptors of a dvsd"] == footprint_["descriptors of a dvsd"];
    footprint_ = now;
    return same;
  };
  await(still, kStillLimit);
  counted_before_ = tally_.committed() + tally_.rolled_back();
}

void Run::end_growth() {
  const uint64_t moves = tally_.committed() + tally_.rolled_back() - counted_before_;
  const auto small = [&] {
    tally_.growth = compare(footprint_, take_footprint(cluster_), moves);
    return std::none_of(tally_.growth.begin(), tally_.growth.end(),
                        [](const Growth& growth) { return growth.is_too_much(); });
  };
  if (!await(small, kStillLimit)) wrong("something has grown");
}

void Run::update() {
  ++tally_.rounds;
  tally_.seconds = ms_since(began_ns_) / 1000;
  tally_.requests = crew_.checker().totals();
  for (const std::string& what : crew_.checker().take_violations()) wrong(what);
  for (const auto& [point, times] : cluster_.fired_in_all()) {
    const auto named = std::find_if(kFaultPoints.begin(), kFaultPoints.end(),
                                    [number = point](const FaultPoint& each) {
                                      return static_cast<int>(each.fault) == number;
                                    });
    if (named != kFaultPoints.end()) tally_.hits[std::string(named->name)] = times;
  }
  if (realtime_ns() - told_ns_ < kProgressEvery) return;
  told_ns_ = realtime_ns();
  print_progress(tally_, options_);
}

}  // namespace dvs::soak
