#include "soak/checker.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <utility>

namespace dvs::soak {
namespace {

constexpr size_t kViolationsTold = 8;

std::string show(const Entry& entry) {
  return fmt::format("number {}, count {}, own {}, digest {:x}, rc {}", entry.number, entry.count,
                     entry.own, entry.digest, entry.rc);
}

}  // namespace

Checker::Checker(size_t servers, size_t state_bytes) {
  for (size_t i = 0; i < servers; ++i) servers_.emplace_back(state_bytes);
}

void Checker::wrong(uint64_t& counter, std::string what) {
  ++counter;
  content_ = false;
  if (violations_.size() < kViolationsTold) violations_.push_back(std::move(what));
}

void Checker::add_client(uint32_t id, History* history) {
  const std::lock_guard lock(mutex_);
  clients_.push_back({id, history});
}

void Checker::remove_client(uint32_t id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(clients_, [id](const Client& client) { return client.id == id; });
  for (Server& server : servers_) server.clients.erase(id);
}

// A server has written what it took before its client can have the answer: so what clients say is
// looked at first, and read last.
void Checker::read() {
  const std::lock_guard lock(mutex_);
  std::vector<uint64_t> ends;
  for (const Client& client : clients_) ends.push_back(client.history->written.load());
  for (size_t i = 0; i < servers_.size(); ++i) read_server(servers_[i], i);
  for (size_t i = 0; i < clients_.size(); ++i) {
    History& history = *clients_[i].history;
    for (uint64_t at = history.read.load(); at < ends[i]; ++at) {
      reported(clients_[i], history.entries[at % History::kEntries]);
    }
    history.read.store(ends[i]);
  }
}

void Checker::read_server(Server& server, size_t index) {
  const uint64_t end = server.history->written.load();
  for (uint64_t at = server.history->read.load(); at < end; ++at) {
    took(server, index, server.history->entries[at % History::kEntries]);
  }
  server.history->read.store(end);
}

void Checker::took(Server& server, size_t index, const Entry& entry) {
  Pair& pair = server.clients[entry.peer];
  const auto who = [&] {
    return fmt::format("server {} took of client {}: {}; ", index, entry.peer, show(entry));
  };
  if (entry.count != server.count + 1) {
    wrong(totals_.corrupted, who() + fmt::format("its count was {}", server.count));
  }
  server.count = entry.count;
  if (entry.number <= pair.last_taken) {
    uint64_t& counter = entry.number == pair.last_taken ? totals_.duplicated : totals_.reordered;
    wrong(counter, who() + fmt::format("the last one was {}", pair.last_taken));
  }
  pair.last_taken = entry.number;
  if (const uint64_t digest = server.state.apply(entry.peer, entry.number);
      digest != entry.digest) {
    wrong(totals_.corrupted, who() + fmt::format("the digest must be {:x}", digest));
  }
  if (entry.rc != OK && entry.rc != EDVSPROCSTS) {
    wrong(totals_.failed, who() + "that was its last reply's");
  }
  // Its client has given up already.
  if (pair.failed.erase(entry.number) != 0) {
    --pair.not_taken;
    ++totals_.timed_out_taken;
    return;
  }
  pair.taken.push_back({entry.number, entry.count, entry.own, entry.digest});
}

void Checker::reported(const Client& client, const Entry& entry) {
  Pair& pair = servers_.at(entry.peer).clients[client.id];
  if (entry.number != pair.last_reported + 1) {
    wrong(totals_.corrupted, fmt::format("client {} reports of server {}: {}; the last one was {}",
                                         client.id, entry.peer, show(entry), pair.last_reported));
  }
  pair.last_reported = entry.number;
  if (pair.waits_since_ns == 0) pair.waits_since_ns = entry.sent_ns;
  if (entry.rc != OK) return failed(pair, client, entry);
  longest_gap_ns_ = std::max(longest_gap_ns_, entry.answered_ns - pair.waits_since_ns);
  pair.waits_since_ns = 0;
  pair.answered_ns = entry.answered_ns;
  answered(pair, client, entry);
}

void Checker::answered(Pair& pair, const Client& client, const Entry& entry) {
  const auto who = [&] {
    return fmt::format("client {} has an answer of server {}: {}; ", client.id, entry.peer,
                       show(entry));
  };
  ++totals_.answered;
  if (pair.taken.empty() || pair.taken.front().number != entry.number) {
    return wrong(totals_.lost,
                 who() + fmt::format("that one took {}",
                                     pair.taken.empty() ? 0 : pair.taken.front().number));
  }
  const Taken taken = pair.taken.front();
  pair.taken.pop_front();
  if (taken.count != entry.count || taken.own != entry.own || taken.digest != entry.digest) {
    wrong(totals_.corrupted, who() + fmt::format("that one has number {}, count {}, own {}",
                                                 taken.number, taken.count, taken.own));
  }
  if (entry.own + pair.not_taken != entry.number) {
    wrong(totals_.lost, who() + fmt::format("{} were reported as failed", pair.not_taken));
  }
  // What comes after this one in spite of that is reordered.
  pair.failed.erase(pair.failed.begin(), pair.failed.lower_bound(entry.number));
}

void Checker::failed(Pair& pair, const Client& client, const Entry& entry) {
  if (entry.rc != EDVSTIMEDOUT) {
    wrong(totals_.failed,
          fmt::format("client {} reports of server {}: {}", client.id, entry.peer, show(entry)));
  } else {
    ++totals_.timed_out;
  }
  if (!pair.taken.empty() && pair.taken.front().number == entry.number) {
    pair.taken.pop_front();
    ++totals_.timed_out_taken;
    return;
  }
  ++pair.not_taken;
  pair.failed.insert(entry.number);
}

bool Checker::answered_since(int64_t ns) const {
  const std::lock_guard lock(mutex_);
  return std::all_of(clients_.begin(), clients_.end(), [&](const Client& client) {
    return std::all_of(servers_.begin(), servers_.end(), [&](const Server& server) {
      const auto found = server.clients.find(client.id);
      return found != server.clients.end() && found->second.answered_ns >= ns;
    });
  });
}

double Checker::take_longest_gap_ms() {
  const std::lock_guard lock(mutex_);
  const int64_t ns = longest_gap_ns_;
  longest_gap_ns_ = 0;
  return static_cast<double>(ns) / 1e6;
}

Totals Checker::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

std::vector<std::string> Checker::take_violations() {
  const std::lock_guard lock(mutex_);
  return std::exchange(violations_, {});
}

bool Checker::content() const {
  const std::lock_guard lock(mutex_);
  return content_;
}

std::string Checker::describe() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (size_t i = 0; i < servers_.size(); ++i) {
    for (const auto& [id, pair] : servers_[i].clients) {
      text += fmt::format("server {}, client {}: taken up to {}, reported up to {}\n", i, id,
                          pair.last_taken, pair.last_reported);
    }
  }
  return text;
}

}  // namespace dvs::soak
