#include "dvk/capsule.h"

#include "wire/codec.h"

namespace dvs::dvk {
namespace {

constexpr uint32_t kFormat = 2;

void put_message(wire::Writer& out, const message& m) {
  out.put_bytes({reinterpret_cast<const char*>(&m), sizeof m});
}

message get_message(wire::Reader& in) {
  message m{};
  const auto bytes = in.get_bytes(sizeof m);
  if (bytes.size() == sizeof m) __builtin_memcpy(&m, bytes.data(), sizeof m);
  return m;
}

void put_permissions(wire::Writer& out, const Permissions& p) {
  for (uint64_t map : {p.denied_calls, p.denied_to, p.denied_from}) out.put(map);
  out.put(p.level);
  out.put(p.warn);
  out.put(p.trap_mask);
}

Permissions get_permissions(wire::Reader& in) {
  Permissions p;
  for (uint64_t* map : {&p.denied_calls, &p.denied_to, &p.denied_from}) *map = in.get<uint64_t>();
  p.level = in.get<int>();
  p.warn = in.get<int>();
  p.trap_mask = in.get<uint32_t>();
  return p;
}

void put_endpoint(wire::Writer& out, const CapsuleEndpoint& e) {
  out.put(e.slot);
  out.put(e.endpoint);
  out.put(e.incarnation);
  out.put(e.pid);
  out.put(e.tid);
  out.put_string(e.name);
  for (uint32_t value : {e.flags, e.event, e.inside, e.busy, e.rx_kind, e.next_sender, e.tx_kind}) {
    out.put(value);
  }
  out.put(e.rx.pack());
  put_message(out, e.rx_message);
  out.put(e.tx.pack());
  out.put(e.tx_peer);
  out.put(e.notify_value);
  put_message(out, e.tx_message);
  put_permissions(out, e.permissions);
  out.put(e.copy_source);
  out.put(e.copy_target);
  for (uint64_t value : {e.copy_source_addr, e.copy_target_addr, e.copy_bytes}) out.put(value);
  for (uint64_t counter : e.counters) out.put(counter);
  out.put(static_cast<uint32_t>(e.notifications.size()));
  for (const auto& notification : e.notifications) {
    out.put(notification.source);
    out.put(notification.incarnation);
    out.put(notification.number);
    out.put(notification.value);
  }
}

CapsuleEndpoint get_endpoint(wire::Reader& in) {
  CapsuleEndpoint e;
  e.slot = in.get<uint32_t>();
  e.endpoint = in.get<int>();
  e.incarnation = in.get<uint64_t>();
  e.pid = in.get<int>();
  e.tid = in.get<int>();
  e.name = std::string(in.get_string());
  for (uint32_t* value :
       {&e.flags, &e.event, &e.inside, &e.busy, &e.rx_kind, &e.next_sender, &e.tx_kind}) {
    *value = in.get<uint32_t>();
  }
  e.rx = RxWord::unpack(in.get<uint64_t>());
  e.rx_message = get_message(in);
  e.tx = TxWord::unpack(in.get<uint64_t>());
  e.tx_peer = in.get<int>();
  e.notify_value = in.get<int64_t>();
  e.tx_message = get_message(in);
  e.permissions = get_permissions(in);
  e.copy_source = in.get<int>();
  e.copy_target = in.get<int>();
  for (uint64_t* value : {&e.copy_source_addr, &e.copy_target_addr, &e.copy_bytes}) {
    *value = in.get<uint64_t>();
  }
  for (uint64_t& counter : e.counters) counter = in.get<uint64_t>();
  const auto notifications = in.get<uint32_t>();
  for (uint32_t i = 0; i < notifications && in.ok(); ++i) {
    CapsuleNotification notification;
    notification.source = in.get<uint16_t>();
    notification.incarnation = in.get<uint64_t>();
    notification.number = in.get<uint64_t>();
    notification.value = in.get<int64_t>();
    e.notifications.push_back(notification);
  }
  return e;
}

void put_debt(wire::Writer& out, const CapsuleDebt& debt) {
  out.put(debt.source);
  out.put(debt.incarnation);
  out.put(debt.tx.pack());
  out.put(debt.tx_kind);
  out.put(debt.tx_peer);
  out.put(debt.notify_value);
  out.put(static_cast<uint8_t>(debt.answered ? 1 : 0));
  if (!debt.answered) return;
  out.put(debt.answer_kind);
  put_message(out, debt.answer);
}

CapsuleDebt get_debt(wire::Reader& in) {
  CapsuleDebt debt;
  debt.source = in.get<uint32_t>();
  debt.incarnation = in.get<uint64_t>();
  debt.tx = TxWord::unpack(in.get<uint64_t>());
  debt.tx_kind = in.get<uint32_t>();
  debt.tx_peer = in.get<int>();
  debt.notify_value = in.get<int64_t>();
  debt.answered = in.get<uint8_t>() != 0;
  if (debt.answered) {
    debt.answer_kind = in.get<uint32_t>();
    debt.answer = get_message(in);
  }
  return debt;
}

void put_peer(wire::Writer& out, const CapsulePeer& peer) {
  out.put(peer.slot);
  out.put(peer.endpoint);
  out.put(peer.incarnation);
  out.put(peer.epoch);
  out.put(peer.node);
  out.put_string(peer.name);
}

CapsulePeer get_peer(wire::Reader& in) {
  CapsulePeer peer;
  peer.slot = in.get<uint32_t>();
  peer.endpoint = in.get<int>();
  peer.incarnation = in.get<uint64_t>();
  peer.epoch = in.get<uint32_t>();
  peer.node = in.get<uint32_t>();
  peer.name = std::string(in.get_string());
  return peer;
}

bool fits(const Capsule& capsule, uint32_t slots) {
  for (const auto& e : capsule.endpoints) {
    if (e.slot >= slots || e.name.size() >= MAXPROCNAME) return false;
    for (const auto& notification : e.notifications) {
      if (notification.source >= slots) return false;
    }
  }
  for (const auto& debt : capsule.debts) {
    if (debt.source >= slots) return false;
  }
  for (const auto& peer : capsule.peers) {
    if (peer.slot >= slots || peer.name.size() >= MAXPROCNAME) return false;
  }
  return true;
}

}  // namespace

std::string encode_capsule(const Capsule& capsule) {
  wire::Writer out;
  out.put(kFormat);
  out.put(static_cast<uint32_t>(capsule.endpoints.size()));
  for (const auto& endpoint : capsule.endpoints) put_endpoint(out, endpoint);
  out.put(static_cast<uint32_t>(capsule.debts.size()));
  for (const auto& debt : capsule.debts) put_debt(out, debt);
  out.put(static_cast<uint32_t>(capsule.peers.size()));
  for (const auto& peer : capsule.peers) put_peer(out, peer);
  return out.take();
}

Result<Capsule> decode_capsule(std::string_view bytes, uint32_t slots) {
  wire::Reader in(bytes);
  Capsule capsule;
  if (in.get<uint32_t>() != kFormat) return Error(Code::kCorrupt, "not a capsule of this version");
  const auto endpoints = in.get<uint32_t>();
  for (uint32_t i = 0; i < endpoints && in.ok(); ++i) capsule.endpoints.push_back(get_endpoint(in));
  const auto debts = in.get<uint32_t>();
  for (uint32_t i = 0; i < debts && in.ok(); ++i) capsule.debts.push_back(get_debt(in));
  const auto peers = in.get<uint32_t>();
  for (uint32_t i = 0; i < peers && in.ok(); ++i) capsule.peers.push_back(get_peer(in));
  if (!in.done()) return Error(Code::kCorrupt, "the capsule is cut short or too long");
  if (!fits(capsule, slots)) return Error(Code::kCorrupt, "the capsule names slots out of range");
  return capsule;
}

}  // namespace dvs::dvk
