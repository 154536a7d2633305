#include "proxy/explore/ledger.h"

#include <cstring>

namespace dvs::explore {
namespace {

constexpr int kSendRec = 1;
constexpr int kSend = 2;
constexpr int kAnswer = 3;
constexpr int kTimed = 1 << 8;

char* check_word(int id, int type) {
  return reinterpret_cast<char*>(static_cast<uintptr_t>(id) * 0x9e3779b97f4a7c15u +
                                 static_cast<uintptr_t>(type));
}

int kind_of(const message& m) { return m.m_type & 0xff; }

bool is_notification(const message& m) { return m.m_type >= NOTIFY_FROM(-NR_TASKS); }

}  // namespace

bool Ledger::is_timed(const message& m) const { return (m.m_type & kTimed) != 0; }

char Ledger::pattern_byte(int id, size_t at, bool out) {
  return static_cast<char>(static_cast<size_t>(id) * 31 + at * 7 + (out ? 101 : 0));
}

message Ledger::new_request(int endpoint, int target, int type, bool timed, char* buffer, int& id) {
  id = ++ids_;
  Entry& entry = entries_[id];
  entry.client = endpoint;
  entry.server = target;
  message m{};
  m.m_type = type | (timed ? kTimed : 0);
  m.m1_i1 = id;
  m.m1_p1 = buffer;
  m.m1_p2 = check_word(id, m.m_type);
  m.m1_p3 = check_word(~id, m.m_type);
  if (buffer != nullptr) {
    for (size_t i = 0; i < kCopyBytes; ++i) buffer[i] = pattern_byte(id, i, false);
  }
  return m;
}

void Ledger::judge(const Entry& entry, int id, const char* call) {
  const std::string who = std::string(call) + " " + std::to_string(id) + " of " +
                          std::to_string(entry.client) + " to " + std::to_string(entry.server) +
                          " returned " + std::to_string(entry.rc) + " and was taken " +
                          std::to_string(entry.taken) + " times";
  world_.trace(who);
  const bool gone = entry.rc == EDVSDSTDIED || entry.rc == EDVSSRCDIED || entry.rc == EDVSNOTBIND ||
                    entry.rc == EDVSSHUTDOWN || entry.rc == EDVSENDPOINT;
  if (gone && world_.somebody_died()) return;
  if (entry.rc == OK) {
    // One that was sent is in the receiver's descriptor, which its body may not have seen yet.
    if (std::strcmp(call, "sendrec") == 0 && entry.taken != 1) world_.fail(who);
  } else if (entry.rc == EDVSTIMEDOUT || entry.rc == EDVSAGAIN) {
    const bool was_sendrec = std::strcmp(call, "sendrec") == 0;
    if (entry.taken != 0 && !was_sendrec && !world_.disturbed()) world_.fail(who);
  } else {
    world_.fail(who);
  }
}

void Ledger::sendrec(Process& process, int endpoint, int target, dvk::Deadline deadline,
                     char* buffer) {
  int id = 0;
  message m = new_request(endpoint, target, kSendRec, !deadline.is_never(), buffer, id);
  const message request = m;
  Entry& entry = entries_[id];
  entry.rc = world_.call(process, endpoint,
                         [&](dvk::Caller& caller) { return caller.sendrec(target, m, deadline); });
  entry.over = true;
  judge(entry, id, "sendrec");
  if (entry.rc != OK) return;
  message expected = answer_to(request);
  expected.m_source = target;
  if (std::memcmp(&m, &expected, sizeof m) != 0) {
    world_.fail("request " + std::to_string(id) + " got the answer to " + std::to_string(m.m1_i1) +
                " from " + std::to_string(m.m_source));
  }
  for (size_t i = 0; buffer != nullptr && i < kCopyBytes; ++i) {
    if (buffer[i] != pattern_byte(id, i, true)) {
      world_.fail("request " + std::to_string(id) + ": the copied bytes are wrong");
      break;
    }
  }
}

void Ledger::send(Process& process, int endpoint, int target, dvk::Deadline deadline) {
  int id = 0;
  message m = new_request(endpoint, target, kSend, !deadline.is_never(), nullptr, id);
  Entry& entry = entries_[id];
  entry.rc = world_.call(process, endpoint,
                         [&](dvk::Caller& caller) { return caller.send(target, m, deadline); });
  entry.over = true;
  judge(entry, id, "send");
}

void Ledger::notify(Process& process, int endpoint, int target, dvk::Deadline deadline) {
  Notifications& account = notifications_[{endpoint, target}];
  const long value = ++ids_;
  ++account.tried;
  const int rc = world_.call(process, endpoint, [&](dvk::Caller& caller) {
    return caller.notify(SELF, target, value, deadline);
  });
  world_.trace("notify " + std::to_string(value) + " of " + std::to_string(endpoint) + " to " +
               std::to_string(target) + " returned " + std::to_string(rc));
  if (rc == OK) {
    account.value_sent = value;
  } else if (!world_.disturbed() && !world_.somebody_died()) {
    --account.tried;
  }
  const bool timed = rc == EDVSTIMEDOUT || rc == EDVSAGAIN;
  if (rc != OK && !timed && !world_.somebody_died()) {
    world_.fail("notify says " + std::to_string(rc));
  }
}

bool Ledger::received(int server, const message& m) {
  if (is_notification(m)) {
    Notifications& account = notifications_[{m.m_source, server}];
    world_.trace(std::to_string(server) + " is notified by " + std::to_string(m.m_source) + ", " +
                 std::to_string(m.m9_l1));
    ++account.received;
    account.value_received = m.m9_l1;
    return false;
  }
  const int id = m.m1_i1;
  const std::string what =
      "request " + std::to_string(id) + " received by " + std::to_string(server);
  world_.trace(what);
  if (m.m1_p2 != check_word(id, m.m_type) || m.m1_p3 != check_word(~id, m.m_type)) {
    world_.fail(what + ": torn");
    return false;
  }
  auto found = entries_.find(id);
  if (found == entries_.end()) {
    world_.fail(what + ": nobody asked for it");
    return false;
  }
  Entry& entry = found->second;
  if (++entry.taken > 1) world_.fail(what + ": for the second time");
  if (entry.server != server) world_.fail(what + ": meant for " + std::to_string(entry.server));
  if (entry.client != m.m_source) world_.fail(what + ": source " + std::to_string(m.m_source));
  // (A request whose time runs out may have been in the server's descriptor already.)
  const bool refused = entry.over && entry.rc != OK && kind_of(m) == kSend;
  if (refused && !world_.disturbed() && !world_.somebody_died()) {
    world_.fail(what + ": after its sender was told " + std::to_string(entry.rc));
  }
  int& last = last_taken_[{m.m_source, server}];
  if (id <= last) world_.fail(what + ": after " + std::to_string(last));
  last = id;
  return kind_of(m) == kSendRec;
}

message Ledger::answer_to(const message& request) const {
  message m = request;
  m.m_type = kAnswer;
  m.m1_p2 = check_word(request.m1_i1, kAnswer);
  return m;
}

void Ledger::check_copy_in(const message& request, const char* bytes) {
  for (size_t i = 0; i < kCopyBytes; ++i) {
    if (bytes[i] == pattern_byte(request.m1_i1, i, false)) continue;
    world_.fail("the bytes copied from the client of request " + std::to_string(request.m1_i1) +
                " are wrong");
    return;
  }
}

void Ledger::fill_copy_out(const message& request, char* bytes) const {
  for (size_t i = 0; i < kCopyBytes; ++i) bytes[i] = pattern_byte(request.m1_i1, i, true);
}

void Ledger::check_end() {
  for (const auto& [id, entry] : entries_) {
    if (!entry.over || entry.rc != OK || entry.taken == 1 || world_.somebody_died()) continue;
    world_.fail("message " + std::to_string(id) + " of " + std::to_string(entry.client) + " to " +
                std::to_string(entry.server) + " was sent, but never came");
  }
  for (const auto& [pair, account] : notifications_) {
    const std::string who = "notifications of " + std::to_string(pair.first) + " to " +
                            std::to_string(pair.second) + ": ";
    if (account.received > account.tried + world_.restarts()) {
      world_.fail(who + std::to_string(account.tried) + " sent, " +
                  std::to_string(account.received) + " received");
    }
    if (account.value_sent > account.value_received && !world_.somebody_died()) {
      world_.fail(who + "the last one, " + std::to_string(account.value_sent) +
                  ", never came; last " + std::to_string(account.value_received));
    }
  }
}

}  // namespace dvs::explore
