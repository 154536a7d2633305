// What a run of the model is judged by, and how it is told.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "proxy/explore/model.h"

namespace dvs::explore {
namespace {

using dvk::Deadline;
using dvk::OpKind;

constexpr uint8_t kAnswer = 0x80;  // with a request's id: its answer
constexpr int kNotified = 1000;    // with the source: what receive tells of a notification

// All of its bytes tell what it is, so one that is made of two shows.
message make(uint8_t id) {
  message m;
  std::memset(&m, id, sizeof m);
  m.m_type = id;
  return m;
}

bool is(const message& m, uint8_t id) {
  message expected = make(id);
  expected.m_source = m.m_source;
  return std::memcmp(&m, &expected, sizeof m) == 0;
}

}  // namespace

// ---- calls --------------------------------------------------------------------------------------

template <typename Call>
int Party::call(Call call) {
  dvk::Caller caller(model_.region(), model_.slot(endpoint_), {static_cast<uint32_t>(tid_)});
  return caller.status() == OK ? call(caller) : caller.status();
}

int Party::ask(OpKind kind, int to, Deadline deadline) {
  const auto id = static_cast<uint8_t>((thread_ + 1) << 3 | ++calls_);
  Model::Message record;
  record.kind = kind;
  record.from = endpoint_;
  record.to = to;
  record.id = id;
  model_.add_message(record);
  message m = make(id);
  const int rc = call([&](dvk::Caller& caller) {
    if (kind == OpKind::kSend) return caller.send(to, m, deadline);
    if (kind == OpKind::kSendRec) return caller.sendrec(to, m, deadline);
    return caller.notify(SELF, to, id, deadline);
  });
  Model::Message& sent = *model_.message_of(id);
  sent.rc = rc;
  if (kind == OpKind::kSendRec && rc == OK && !is(m, id | kAnswer)) {
    model_.fail("a wrong answer, or half of one");
  }
  model_.end_call(thread_, rc, 0);
  return rc;
}

int Party::send(int to, Deadline deadline) { return ask(OpKind::kSend, to, deadline); }
int Party::sendrec(int to, Deadline deadline) { return ask(OpKind::kSendRec, to, deadline); }
int Party::notify(int to, Deadline deadline) { return ask(OpKind::kNotify, to, deadline); }

int Party::receive(int from, Deadline deadline, dvk::RxMode mode) {
  message m{};
  const int rc = call([&](dvk::Caller& caller) { return caller.receive(from, m, deadline, mode); });
  if (rc != OK) return model_.end_call(thread_, rc, 0), 0;
  const bool notified = m.m_type >= NOTIFY_FROM(-NR_TASKS);
  request_ = static_cast<uint8_t>(notified ? m.m9_l1 : m.m_type);
  Model::Message* sent = model_.message_of(request_);
  const bool right = sent != nullptr && sent->from == m.m_source && sent->to == endpoint_ &&
                     (from == ANY || from == m.m_source) &&
                     (notified ? sent->kind == OpKind::kNotify : is(m, request_));
  if (right) {
    ++sent->taken;
  } else {
    model_.fail("what was received is not what was sent");
  }
  model_.end_call(thread_, notified ? m.m_source + kNotified : m.m_source, request_);
  return m.m_source;
}

int Party::reply(int to, Deadline deadline) {
  message m = make(request_ | kAnswer);
  const int rc = call([&](dvk::Caller& caller) { return caller.reply(to, m, deadline); });
  model_.end_call(thread_, rc, 0);
  return rc;
}

int Party::relay(int client, int to) {
  message m = make(request_);
  m.m_source = client;
  Model::Message& sent = *model_.message_of(request_);
  --sent.taken;  // from now on it may be taken there
  sent.to = to;
  const int rc = call([&](dvk::Caller& caller) { return caller.relay(to, m, Deadline::never()); });
  model_.end_call(thread_, rc, 0);
  return rc;
}

void Party::wake(int endpoint) {
  dvk::Descriptor& d = model_.region().at(model_.slot(endpoint));
  d.flags.fetch_or(dvk::kWokenUp);
  dvk::event_signal(d.event);
  model_.end_call(thread_, OK, 0);
}

// ---- judgement ----------------------------------------------------------------------------------

void Model::fail(const std::string& why) {
  if (failure_.empty()) failure_ = why;
}

Model::Message* Model::message_of(uint8_t id) {
  for (Message& message : messages_) {
    if (message.id == id) return &message;
  }
  return nullptr;
}

void Model::check_message(const Message& message) {
  const std::string who = "message " + std::to_string(message.id) + " of " +
                          std::to_string(message.from) + " to " + std::to_string(message.to) +
                          ", result " + std::to_string(message.rc) + ", taken " +
                          std::to_string(message.taken) + " times";
  if (message.taken > 1) fail(who);
  if (is_excused(message.from)) return;
  const bool may_be_lost = is_excused(message.to);
  if (message.rc == OK && message.taken == 0 && !may_be_lost) fail(who);
  if (message.rc == OK || message.taken == 0) return;
  const bool request = message.kind == OpKind::kSendRec;
  const bool is_known = request && (message.rc == EDVSTIMEDOUT || message.rc == EDVSSRCDIED);
  if (!is_known && message.rc != EDVSSHUTDOWN) fail(who);
}

// Of several that were not fetched one is left, with the value of the last.
void Model::check_notifications(int from, int to) {
  int tried = 0;
  int recorded = 0;
  int received = 0;
  for (const Message& message : messages_) {
    if (message.kind != OpKind::kNotify || message.from != from || message.to != to) continue;
    ++tried;
    recorded += message.rc == OK ? 1 : 0;
    received += message.taken;
  }
  const bool pending = region_.notifies(slot(to)).test(slot(from));
  const bool lost = recorded > 0 && received == 0 && !pending;
  if (received + (pending ? 1 : 0) > tried || (lost && !is_excused(to) && !is_excused(from))) {
    fail("notifications of " + std::to_string(from) + " to " + std::to_string(to) + ": " +
         std::to_string(recorded) + " of " + std::to_string(tried) + " recorded, " +
         std::to_string(received) + " received");
  }
}

// Who is in no call has nothing outstanding and is in nobody's way.
void Model::check_rest(const Thread& thread) {
  const dvk::Descriptor& d = region_.at(slot(thread.endpoint));
  if (dvk::load_kind(d) != dvk::Kind::kLocal) return;
  const bool rests = dvk::load_tx(d).phase == dvk::TxPhase::kIdle &&
                     dvk::load_rx(d).phase == dvk::RxPhase::kIdle && d.inside.load() == 0 &&
                     d.busy.load() == 0 && d.touching[0].load() == 0 && d.touching[1].load() == 0;
  if (!rests) fail("the descriptor of " + thread.name + " is not at rest");
}

// Whoever sleeps for ever must have a reason: when it is made to look, it goes to sleep again.
void Model::check_sleepers() {
  probing_ = true;
  for (running_ = 0; running_ < threads_.size(); ++running_) {
    Thread& thread = threads_[running_];
    if (thread.background || thread.state == State::kDead || thread.state == State::kDone) continue;
    const size_t told = thread.told.size();
    thread.woken = true;
    thread.fiber->resume();
    if (thread.fiber->done() || thread.told.size() != told || thread.state == State::kSpinning) {
      fail(thread.name + " sleeps, or waits for another's step, though it could go on");
    }
  }
}

void Model::check_end() {
  outcome_ = outcome();
  for (const Message& message : messages_) {
    if (message.kind == OpKind::kNotify) {
      check_notifications(message.from, message.to);
    } else {
      check_message(message);
    }
  }
  for (const Thread& thread : threads_) {
    const bool is_owner = thread.endpoint != 0 && !is_excused(thread.endpoint);
    if (is_owner && thread.state == State::kDone) check_rest(thread);
  }
  check_sleepers();
}

// ---- words --------------------------------------------------------------------------------------

std::string Model::outcome() const {
  std::string text;
  for (const Thread& thread : threads_) {
    if (thread.endpoint == 0 || thread.state == State::kDead) continue;
    text += (text.empty() ? "" : "; ") + thread.name + ":";
    for (const int result : thread.told) text += " " + std::to_string(result);
    if (thread.state != State::kDone) text += " asleep";
  }
  return text;
}

std::string Model::name_of(const void* word) const {
  static constexpr struct {
    size_t offset;
    const char* name;
  } kFields[] = {
      {offsetof(dvk::Descriptor, kind), "kind"},
      {offsetof(dvk::Descriptor, endpoint), "identity"},
      {offsetof(dvk::Descriptor, flags), "flags"},
      {offsetof(dvk::Descriptor, event), "event"},
      {offsetof(dvk::Descriptor, inside), "inside"},
      {offsetof(dvk::Descriptor, busy), "busy"},
      {offsetof(dvk::Descriptor, priv_trap_mask), "permissions"},
      {offsetof(dvk::Descriptor, cpu), "cpu"},
      {offsetof(dvk::Descriptor, partner), "partner"},
      {offsetof(dvk::Descriptor, touched), "touched"},
      {offsetof(dvk::Descriptor, rx), "rx"},
      {offsetof(dvk::Descriptor, rx_kind), "rx_kind"},
      {offsetof(dvk::Descriptor, rx_message), "rx_message"},
      {offsetof(dvk::Descriptor, tx), "tx"},
      {offsetof(dvk::Descriptor, tx_kind), "tx_kind"},
      {offsetof(dvk::Descriptor, tx_peer), "tx_peer"},
      {offsetof(dvk::Descriptor, notify_value), "notify_value"},
      {offsetof(dvk::Descriptor, tx_message), "tx_message"},
      {offsetof(dvk::Descriptor, touching), "touching"},
      {offsetof(dvk::Descriptor, copy_source), "copy or counter"},
  };
  const auto* at = static_cast<const char*>(word);
  const auto* first = reinterpret_cast<const char*>(&region_.at(0));
  if (at < first) return "the header";
  const auto offset = static_cast<size_t>(at - first);
  const size_t slot = offset / sizeof(dvk::Descriptor);
  if (slot >= region_.slots()) {
    const size_t set = (offset - region_.slots() * sizeof(dvk::Descriptor)) /
                       (dvk::SlotSet::size_in_words(region_.slots()) * sizeof(uint64_t));
    const auto owner = static_cast<uint32_t>(set / 2);
    if (owner == region_.slots()) return "the outbound set";
    return (set % 2 == 0 ? "senders of " : "notifications of ") +
           std::to_string(region_.number_of(owner));
  }
  const char* field = "";
  for (const auto& each : kFields) {
    if (each.offset <= offset % sizeof(dvk::Descriptor)) field = each.name;
  }
  return field + (" of " + std::to_string(region_.number_of(static_cast<uint32_t>(slot))));
}

void Model::tell(const void* word, bool writes, uint64_t value) {
  char number[24];
  std::snprintf(number, sizeof number, "%llx", static_cast<unsigned long long>(value));
  story_ += threads_[running_].name + (writes ? ": changes " : ": sees ") + name_of(word) + " " +
            number + "\n";
}

}  // namespace dvs::explore
