#include "torture/ledger.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <new>

namespace dvs::torture {

const Cast kCast[kActors] = {
    {1, 0, Role::kServer},  {2, 1, Role::kServer},  {3, 2, Role::kServer},  {4, 2, Role::kServer},
    {70, 3, Role::kClient}, {71, 4, Role::kClient}, {72, 5, Role::kClient}, {73, 6, Role::kClient},
    {74, 6, Role::kClient}, {200, 7, Role::kWild},  {201, 8, Role::kWild},  {202, 9, Role::kWild},
    {5, 10, Role::kWild},   {203, 10, Role::kWild},
};

namespace {

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

std::string name_of(uint32_t life, uint32_t number) {
  return "message " + std::to_string(number) + " of life " + std::to_string(life);
}

}  // namespace

Ledger* Ledger::create(uint64_t seed) {
  void* memory =
      ::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* ledger = static_cast<Ledger*>(memory);  // zeros are what everything starts as
  ledger->seed = seed;
  return ledger;
}

void Ledger::complain(const std::string& what) {
  errors.fetch_add(1);
  if (error_written.exchange(1) == 0) std::snprintf(error, sizeof error, "%s", what.c_str());
}

int actor_of(int endpoint) {
  for (int i = 0; i < kActors; ++i) {
    if (kCast[i].number == _ENDPOINT_P(endpoint)) return i;
  }
  return -1;
}

message make_message(uint32_t life, uint32_t number, Sort sort, int source, uint64_t answers) {
  message m{};
  m.m_source = source;
  m.m_type = static_cast<int>(sort);
  m.m1_i1 = static_cast<int>(life);
  m.m1_i2 = static_cast<int>(number);
  m.m1_i3 = source;
  const uint64_t words[3] = {answers, mix(identity_of(life, number) + answers),
                             mix(~identity_of(life, number) + static_cast<uint64_t>(sort))};
  std::memcpy(&m.m1_p1, words, sizeof words);
  return m;
}

bool parse(const message& m, Parsed& parsed) {
  parsed.life = static_cast<uint32_t>(m.m1_i1);
  parsed.number = static_cast<uint32_t>(m.m1_i2);
  parsed.sort = static_cast<Sort>(m.m_type);
  std::memcpy(&parsed.answers, &m.m1_p1, sizeof parsed.answers);
  const message whole =
      make_message(parsed.life, parsed.number, parsed.sort, m.m1_i3, parsed.answers);
  return std::memcmp(&whole, &m, sizeof m) == 0 && parsed.number < kMessages;
}

bool means_not_received(Sort sort, int rc) {
  switch (rc) {
    case OK:
    case kUnderWay:
    case EDVSSHUTDOWN:  // unbound in the middle by another: unknown
      return false;
    case EDVSSRCDIED:
    case EDVSTIMEDOUT:
      return sort != Sort::kRequest;  // it may have been taken and not answered
    default:
      return true;
  }
}

void Ledger::open_life(uint32_t id, int endpoint) {
  // Long over by now, and so are those it had to do with; and they are still on record.
  if (id > kLives / 2) judge(id - kLives / 2);
  Life& opened = life(id);
  std::memset(static_cast<void*>(&opened), 0, sizeof opened);
  opened.endpoint.store(endpoint);
  opened.id.store(id);
}

void Ledger::judge(uint32_t id) {
  Life& sender = life(id);
  for (uint32_t number = 0; number < kMessages; ++number) {
    Record& record = sender.records[number];
    if (record.sort.load() == Sort::kNone) continue;
    const int rc = record.rc.load();
    const int arrivals = record.arrivals.load();
    if (arrivals > 1) {
      complain(name_of(id, number) + " came " + std::to_string(arrivals) + " times");
    }
    if (arrivals > 0 && means_not_received(record.sort.load(), rc)) {
      complain(name_of(id, number) + " came, its sender was told " + std::to_string(rc));
    }
    if (rc != OK || arrivals > 0) continue;
    totals.lost.fetch_add(1);
    const uint32_t to = record.to_life.load();
    if (to == kNobody) {
      totals.unsettled.fetch_add(1);
      continue;
    }
    Life& receiver = life(to);
    const bool violent = receiver.id.load() == to && receiver.end.load() == End::kViolent;
    // One may have been on its way into the hands of who was killed; no more.
    if (!violent || receiver.lost.fetch_add(1) != 0) {
      complain(name_of(id, number) + " was sent with OK to life " + std::to_string(to) +
               ", which never saw it");
    }
  }
}

void Ledger::arrived(const message& m, int endpoint) {
  Parsed parsed;
  if (!parse(m, parsed)) return complain("a torn message");
  const auto say = [&](const std::string& what) {
    complain(name_of(parsed.life, parsed.number) + what);
  };
  Life& sender = life(parsed.life);
  if (sender.id.load() != parsed.life) return say(" comes long after its time");
  if (sender.endpoint.load() != m.m_source) say(" has another's source");
  Record& record = sender.records[parsed.number];
  const int to = record.to.load();
  const bool for_me = to == endpoint || to == _ENDPOINT_P(endpoint);
  if (!for_me) say(" for " + std::to_string(to) + " came to " + std::to_string(endpoint));
  if (record.arrivals.fetch_add(1) != 0) say(" came twice");
  const int rc = record.rc.load();
  if (means_not_received(record.sort.load(), rc)) {
    say(" comes, its sender was told " + std::to_string(rc));
  }
  totals.received.fetch_add(1, std::memory_order_relaxed);
}

void Ledger::over(Record& record, uint32_t id, uint32_t number, int rc) {
  record.rc.store(static_cast<int16_t>(rc));
  totals.sent.fetch_add(rc == OK ? 1 : 0);
  totals.failed.fetch_add(rc == OK ? 0 : 1);
  const bool there = record.arrivals.load() != 0;
  if (there && means_not_received(record.sort.load(), rc)) {
    complain(name_of(id, number) + " is there, its sender is told " + std::to_string(rc));
  }
}

}  // namespace dvs::torture
