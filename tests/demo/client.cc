// dvs-demo-client BOARD RESULT: asks the demo's server 1,000 times, checks each answer against a
// model of the server's state, and writes what it saw into the file RESULT as one JSON object.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "demo/board.h"
#include "demo/protocol.h"

namespace dvs::demo {
namespace {

constexpr long kPaceNs = 150'000;
// Shortly before it may go no further, the client slows down: on a slow machine the migration still
// comes in mid-stream.
constexpr int kBrakeRequests = 100;
constexpr long kBrakeNs = 5'000'000;

struct Seen {
  int answered = 0;
  long lost = 0;
  long duplicated = 0;
  long corrupted = 0;
  int error = 0;  // the last one of dvk_sendrec()
  long pid_first = 0;
  long pid_last = 0;
  long node_first = 0;
  long node_last = 0;
  int moved_at = 0;  // the first request answered from another node; 0: none
  int longest_gap_at = 0;
  std::vector<int64_t> gaps_ns;
};

void pause_ns(long ns) {
  const timespec time = {0, ns};
  ::nanosleep(&time, nullptr);
}

class Client {
 public:
  explicit Client(Board& board) : board_(board), block_(State::kBlockWords) {}

  void run() {
    const int bound = dvk_wait4bindep_T(kServerEndpoint, TIMEOUT_MOLCALL);
    if (DVK_IS_ERROR(bound)) seen_.error = bound;
    for (int sequence = 1; sequence <= kRequests && seen_.error == 0; ++sequence) {
      wait_for_permission(sequence);
      ask(sequence);
      board_.answered.store(sequence);
    }
    seen_.lost += kRequests - seen_.answered;
  }

  Json json() const {
    std::vector<int64_t> gaps = seen_.gaps_ns;
    std::sort(gaps.begin(), gaps.end());
    const auto gap_ms = [&gaps](double share) {
      if (gaps.empty()) return 0.0;
      return static_cast<double>(
                 gaps[static_cast<size_t>(share * static_cast<double>(gaps.size() - 1))]) /
             1e6;
    };
    return {{"requests", kRequests},
            {"answered", seen_.answered},
            {"lost", std::max(seen_.lost, server_lost_)},
            {"duplicated", seen_.duplicated + server_duplicated_},
            {"corrupted", seen_.corrupted + server_corrupted_},
            {"error", seen_.error},
            {"pid_first", seen_.pid_first},
            {"pid_last", seen_.pid_last},
            {"node_first", seen_.node_first},
            {"node_last", seen_.node_last},
            {"moved_at", seen_.moved_at},
            {"longest_gap_at", seen_.longest_gap_at},
            {"gap_median_ms", gap_ms(0.5)},
            {"gap_p99_ms", gap_ms(0.99)},
            {"longest_gap_ms", gap_ms(1.0)}};
  }

 private:
  // Waiting for the harness is no gap: the next one is counted from its end.
  void wait_for_permission(int sequence) {
    const int allowed = board_.allowed.load();
    if (allowed < kRequests && sequence > board_.pace_from.load()) {
      pause_ns(sequence > allowed - kBrakeRequests ? kBrakeNs : kPaceNs);
    }
    if (sequence <= board_.allowed.load()) return;
    board_.held_ns.store(realtime_ns());
    while (sequence > board_.allowed.load()) pause_ns(kPaceNs);
    last_ns_ = 0;
  }

  void ask(int sequence) {
    message m = {};
    m.m_type = kRequest;
    m.m2_l1 = sequence;
    m.m2_l2 = token(static_cast<uint64_t>(sequence));
    m.m2_p1 = reinterpret_cast<char*>(block_.data());
    if (last_ns_ == 0) last_ns_ = realtime_ns();
    if (seen_.error = dvk_sendrec_T(kServerEndpoint, &m, TIMEOUT_MOLCALL); seen_.error != OK)
      return;
    const int64_t now_ns = realtime_ns();
    const int64_t gap_ns = now_ns - last_ns_;
    last_ns_ = now_ns;
    if (seen_.gaps_ns.empty() || gap_ns > longest_ns_) {
      longest_ns_ = gap_ns;
      seen_.longest_gap_at = sequence;
    }
    seen_.gaps_ns.push_back(gap_ns);
    check(m, sequence);
  }

  void check(const message& m, int sequence) {
    const uint64_t* expected = model_.apply(static_cast<uint64_t>(sequence));
    const long got = m.m4_l1;
    if (m.m_type == kAnswer && got == sequence) {
      ++seen_.answered;
      if (std::memcmp(expected, block_.data(), State::kBlockBytes) != 0) ++seen_.corrupted;
    } else {
      ++(m.m_type == kAnswer && got >= 1 && got < sequence ? seen_.duplicated : seen_.corrupted);
    }
    // The server's counts are totals.
    server_lost_ = m.m4_l4;
    server_duplicated_ = m.m4_l5 & 0xffffffff;
    server_corrupted_ = m.m4_l5 >> 32;
    note_place(m, sequence);
  }

  void note_place(const message& m, int sequence) {
    if (seen_.pid_first == 0) {
      seen_.pid_first = m.m4_l2;
      seen_.node_first = m.m4_l3;
    }
    if (m.m4_l2 != seen_.pid_first) ++seen_.corrupted;
    seen_.pid_last = m.m4_l2;
    if (seen_.moved_at == 0 && m.m4_l3 != seen_.node_first) seen_.moved_at = sequence;
    seen_.node_last = m.m4_l3;
  }

  Board& board_;
  State model_;
  std::vector<uint64_t> block_;
  Seen seen_;
  int64_t last_ns_ = 0;
  int64_t longest_ns_ = 0;
  long server_lost_ = 0;
  long server_duplicated_ = 0;
  long server_corrupted_ = 0;
};

int run(const char* board_path, const char* result_path) {
  Board* board = map_board(board_path, false);
  if (board == nullptr) {
    std::perror(board_path);
    return 1;
  }
  Client client(*board);
  client.run();
  const Status written = replace_file(result_path, client.json().dump() + "\n");
  if (!written.ok()) std::fprintf(stderr, "%s\n", written.error().message().c_str());
  return written.ok() ? 0 : 1;
}

}  // namespace
}  // namespace dvs::demo

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: dvs-demo-client BOARD RESULT\n");
    return 2;
  }
  return dvs::demo::run(argv[1], argv[2]);
}
