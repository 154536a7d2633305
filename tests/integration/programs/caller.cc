// caller STEP...: makes one call of libdvk after the other and says "STEP = RESULT" of each. A step
// is CALL or CALL:NUMBER:NUMBER...; after the last one it waits to be killed.
#include <sys/prctl.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common.h"

namespace {

constexpr long kPatienceMs = 20'000;

using Numbers = std::vector<int>;

int send_number(const Numbers& n) {
  message m{};
  m.m_type = n[1];
  m.m1_i1 = n[2];
  return dvk_send_T(n[0], &m, kPatienceMs);
}

int receive_number(const Numbers&) {
  message m{};
  const int rc = dvk_receive_T(ANY, &m, kPatienceMs);
  return rc == OK ? m.m1_i1 : rc;
}

int receive_type(const Numbers&) {
  message m{};
  const int rc = dvk_receive_T(ANY, &m, kPatienceMs);
  return rc == OK ? m.m_type : rc;
}

int receive_source(const Numbers&) {
  message m{};
  const int rc = dvk_receive_T(ANY, &m, kPatienceMs);
  return rc == OK ? m.m_source : rc;
}

// The number that a server of serve() answers the first request with, or its pid.
int ask(const Numbers& n, bool for_pid) {
  message m{};
  m.m_type = dvs::programs::kFirst;
  const int rc = dvk_sendrec_T(n[0], &m, kPatienceMs);
  if (rc != OK) return rc;
  return for_pid ? m.m1_i2 : m.m1_i1;
}

// Asks n[0] to read a number from this process's memory, which only a privileged one may do.
int lend(const Numbers& n) {
  static int number = 4711;
  prctl(PR_SET_DUMPABLE, 0);
  message m{};
  m.m1_p1 = reinterpret_cast<char*>(&number);
  return dvk_sendrec_T(n[0], &m, kPatienceMs);
}

int borrow(const Numbers&) {
  message m{};
  if (const int rc = dvk_rcvrqst_T(&m, kPatienceMs); rc != OK) return rc;
  int number = 0;
  const int rc = dvk_vcopy(m.m_source, m.m1_p1, SELF, &number, sizeof number);
  dvk_reply_T(m.m_source, &m, kPatienceMs);
  return rc == OK ? number : rc;
}

int relay(const Numbers& n) {
  message m{};
  const int rc = dvk_rcvrqst_T(&m, kPatienceMs);
  return rc == OK ? dvk_relay(n[0], &m) : rc;
}

// Lets endpoint n[0] make the call n[1].
int allow(const Numbers& n) {
  priv_usr_t priv;
  const int rc = dvk_getpriv(dvs::programs::my_dc(), n[0], &priv);
  if (rc != OK) return rc;
  set_sys_bit(priv.priv_dvk_allowed, n[1]);
  return dvk_setpriv(dvs::programs::my_dc(), n[0], &priv);
}

// Keeps this process from sending to n[0], or hearing from n[1].
int deny(const Numbers& n) {
  priv_usr_t priv;
  const int rc = dvk_getpriv(dvs::programs::my_dc(), SELF, &priv);
  if (rc != OK) return rc;
  unset_sys_bit(priv.priv_ipc_to, n[0] + NR_TASKS);
  unset_sys_bit(priv.priv_ipc_from, n[1] + NR_TASKS);
  return dvk_setpriv(dvs::programs::my_dc(), SELF, &priv);
}

constexpr char kOwnName[] = "my-own-name";

int rename_myself(const Numbers&) { return prctl(PR_SET_NAME, kOwnName); }

// Whether n[0] is called that.
int has_own_name(const Numbers& n) {
  proc_usr_t info;
  const int rc = dvk_getprocinfo(dvs::programs::my_dc(), n[0], &info);
  return rc == OK ? std::strcmp(info.p_name, kOwnName) == 0 : rc;
}

const std::map<std::string, std::function<int(const Numbers&)>>& calls() {
  using dvs::programs::my_dc;
  static const std::map<std::string, std::function<int(const Numbers&)>> kCalls = {
      {"bind", [](const Numbers& n) { return dvk_bind(my_dc(), n[0]); }},
      {"lclbind", [](const Numbers& n) { return dvk_lclbind(my_dc(), n[0], n[1]); }},
      {"rmtbind", [](const Numbers& n) { return dvk_rmtbind(my_dc(), "later", n[0], n[1]); }},
      {"bkupbind", [](const Numbers& n) { return dvk_bkupbind(my_dc(), getpid(), n[0], n[1]); }},
      {"replbind", [](const Numbers& n) { return dvk_replbind(my_dc(), getpid(), n[0]); }},
      {"unbind", [](const Numbers& n) { return dvk_unbind(my_dc(), n.empty() ? SELF : n[0]); }},
      {"wait4bind", [](const Numbers&) { return dvk_wait4bind_T(kPatienceMs); }},
      {"wait4bindep", [](const Numbers& n) { return dvk_wait4bindep_T(n[0], kPatienceMs); }},
      {"wait4unbind",
       [](const Numbers& n) { return dvk_wait4bindep_X(WAIT_UNBIND, n[0], kPatienceMs); }},
      {"rename", rename_myself},
      {"has_own_name", has_own_name},
      {"getep", [](const Numbers&) { return dvk_getep(getpid()); }},
      {"migr_start", [](const Numbers& n) { return dvk_migr_start(my_dc(), n[0]); }},
      {"migr_commit",
       [](const Numbers& n) { return dvk_migr_commit(PROC_NO_PID, my_dc(), n[0], n[1]); }},
      {"migr_commit_to",
       [](const Numbers& n) { return dvk_migr_commit(n[2], my_dc(), n[0], n[1]); }},
      {"migr_rollback", [](const Numbers& n) { return dvk_migr_rollback(my_dc(), n[0]); }},
      {"exit",
       [](const Numbers&) {
         exit(0);
         return 0;
       }},
      {"send", send_number},
      {"receive", receive_number},
      {"receive_type", receive_type},
      {"receive_source", receive_source},
      {"ask", [](const Numbers& n) { return ask(n, false); }},
      {"ask_pid", [](const Numbers& n) { return ask(n, true); }},
      {"relay", relay},
      {"lend", lend},
      {"borrow", borrow},
      {"hdw_notify", [](const Numbers& n) { return dvk_hdw_notify(my_dc(), n[0]); }},
      {"allow", allow},
      {"deny", deny},
      {"serve",
       [](const Numbers&) {
         dvs::programs::serve();
         return 0;
       }},
  };
  return kCalls;
}

}  // namespace

int main(int argc, char** argv) {
  dvs::programs::lines();
  for (int i = 1; i < argc; ++i) {
    std::string name(argv[i], strcspn(argv[i], ":"));
    Numbers numbers;
    for (const char* at = strchr(argv[i], ':'); at != nullptr; at = strchr(at + 1, ':')) {
      numbers.push_back(atoi(at + 1));
    }
    numbers.resize(numbers.empty() && name == "unbind" ? 0 : std::max<size_t>(numbers.size(), 3));
    const auto call = calls().find(name);
    if (call == calls().end()) return 2;
    printf("%s = %d\n", argv[i], call->second(numbers));
  }
  for (;;) pause();
}
