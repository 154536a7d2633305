#include "ledger.h"

#include <spdlog/fmt/fmt.h>

namespace dvs::sim {
namespace {

constexpr int kRequest = 1;
constexpr int kAnswer = 2;

}  // namespace

int Ledger::check_word(int id, int type) const {
  return static_cast<int>((static_cast<uint32_t>(id) * 0x9e3779b1u) ^ mark_) ^ type;
}

message Ledger::ask(int client, int server) {
  const int id = static_cast<int>(requests_.size()) + 1;
  requests_[id] = {client, server, 0, false};
  message m{};
  m.m_type = kRequest;
  m.m1_i1 = id;
  m.m1_i2 = check_word(id, kRequest);
  return m;
}

message Ledger::answer_to(const message& request) const {
  message m{};
  m.m_type = kAnswer;
  m.m1_i1 = request.m1_i1;
  m.m1_i2 = check_word(request.m1_i1, kAnswer);
  return m;
}

std::string Ledger::taken(int server, const message& m) {
  const auto found = requests_.find(m.m1_i1);
  if (found == requests_.end() || m.m1_i2 != check_word(m.m1_i1, kRequest)) {
    return fmt::format("server {} received what nobody asked", server);
  }
  Request& request = found->second;
  const std::string what = fmt::format("request {} of {} to {}", m.m1_i1, m.m_source, server);
  if (request.client != m.m_source || request.server != server) return what + ": misdirected";
  if (++request.taken > 1) return what + ": taken twice";
  int& last = last_taken_[{request.client, server}];
  if (m.m1_i1 <= last) return what + fmt::format(": after {}", last);
  last = m.m1_i1;
  return {};
}

std::string Ledger::told(int id, int rc, const message& answer, bool somebody_was_lost) {
  Request& request = requests_.at(id);
  request.over = true;
  const std::string what =
      fmt::format("request {} of {} to {}", id, request.client, request.server);
  if (rc == OK) {
    ++answered_;
    if (request.taken != 1)
      return what + fmt::format(": answered, and taken {} times", request.taken);
    const bool right = answer.m1_i1 == id && answer.m1_i2 == check_word(id, kAnswer);
    return right ? "" : what + fmt::format(": got the answer to {}", answer.m1_i1);
  }
  // Time-outs are not asked for; everything else says that somebody is gone.
  const bool gone = rc == EDVSDSTDIED || rc == EDVSSRCDIED || rc == EDVSNOTBIND ||
                    rc == EDVSSHUTDOWN || rc == EDVSENDPOINT;
  if (gone && somebody_was_lost) return {};
  return what + fmt::format(": told {}", rc);
}

void Ledger::forget(int client) {
  for (auto& [id, request] : requests_) {
    if (request.client == client) request.over = true;
  }
}

std::string Ledger::unanswered() const {
  for (const auto& [id, request] : requests_) {
    if (!request.over) {
      return fmt::format("request {} of {} to {} has no answer", id, request.client,
                         request.server);
    }
  }
  return {};
}

}  // namespace dvs::sim
