// A private etcd for a test, of one member or more: its own ports on the loopback, its data on
// tmpfs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace dvs {

// Ends with the process that started it, however that ends; the destructor also removes the data.
class EtcdFixture {
 public:
  // Starts etcd and waits until it answers (at most 20 s). The Error holds the end of its log.
  static Result<std::unique_ptr<EtcdFixture>> create();
  // Inside TLS: clients need a certificate of `authority`.
  struct Tls {
    std::string authority, certificate, key;
  };
  static Result<std::unique_ptr<EtcdFixture>> create(Tls tls);
  // The members of one cluster, each as above.
  static Result<std::vector<std::unique_ptr<EtcdFixture>>> create_members(size_t number);
  ~EtcdFixture();
  EtcdFixture(const EtcdFixture&) = delete;
  EtcdFixture& operator=(const EtcdFixture&) = delete;

  std::string url() const;  // "http(s)://127.0.0.1:port", the same over restarts
  pid_t pid() const { return pid_; }

  void kill();     // SIGKILL, and waits until it is gone
  Status start();  // after kill(): again on the same data and ports; waits until it answers
  void freeze();   // SIGSTOP: it is there, and answers nothing
  void thaw();
  void compact(int64_t revision);  // forgets what was before `revision`

 private:
  EtcdFixture(std::string dir, Tls tls);
  void choose_ports();
  std::string peer_url() const;
  void spawn_etcd();
  Status wait_until_ready();
  bool has_ended();
  Error failure(const std::string& what) const;

  const std::string dir_;
  const Tls tls_;  // empty: plain
  std::string name_ = "test";
  std::string members_;  // "NAME=URL,...", of all; empty: it is the only one
  int client_port_ = 0;
  int peer_port_ = 0;
  int health_port_ = 0;  // never inside TLS
  pid_t pid_ = -1;
};

}  // namespace dvs
