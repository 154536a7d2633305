// kv-server: a key-value store for the processes of its DC. It does nothing for being moved.
//   dvs run --dc DC0 --node n1 --endpoint 20 -- .../kv-server
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "store.h"

namespace {

using dvk::Caller;
using dvk::Expected;
using dvk::Failure;
using dvk::Status;

// A key or value of the client.
Expected<std::string> fetch(const Caller& caller, dvk::Buffer buffer) {
  if (buffer.length > kv::kMaxLength) return Failure(kv::kTooLong);
  std::string bytes(buffer.length, '\0');
  return caller.read(buffer, std::as_writable_bytes(std::span(bytes))).transform([&](size_t) {
    return std::move(bytes);
  });
}

Status give(const Caller& caller, dvk::Buffer buffer, std::string_view bytes) {
  if (bytes.size() > buffer.length) return Failure(kv::kTooLong);
  return caller.write(buffer, std::as_bytes(std::span(bytes)));
}

Status serve(const dvk::Endpoint& self, kv::Store& store) {
  return self.serve(
      [&](const kv::Put& put, const Caller& caller) -> Status {
        const auto key = fetch(caller, put.key);
        if (!key) return key.failure();
        return fetch(caller, put.value).and_then([&](std::string value) {
          return store.put(*key, std::move(value));
        });
      },
      [&](const kv::Get& get, const Caller& caller) -> Expected<kv::Value> {
        const auto key = fetch(caller, get.key);
        if (!key) return key.failure();
        const auto value = store.get(*key);
        if (!value) return value.failure();
        return give(caller, get.value, *value).transform([&] { return kv::Value{value->size()}; });
      },
      [&](const kv::Delete& gone, const Caller& caller) -> Status {
        return fetch(caller, gone.key).and_then([&](const std::string& key) {
          return store.remove(key);
        });
      },
      [&](const kv::CompareAndSwap& swap, const Caller& caller) -> Status {
        const auto key = fetch(caller, swap.key);
        if (!key) return key.failure();
        const auto expected = fetch(caller, swap.expected);
        if (!expected) return expected.failure();
        return fetch(caller, swap.desired).and_then([&](std::string desired) {
          return store.compare_and_swap(*key, *expected, std::move(desired));
        });
      },
      [&](const kv::Count&, const Caller&) { return store.count(); },
      [&](const kv::List& list, const Caller& caller) -> Expected<kv::Page> {
        const auto after = fetch(caller, list.after);
        if (!after) return after.failure();
        bool more = false;
        const std::string page = store.keys_after(*after, list.keys.length, more);
        return give(caller, list.keys, page).transform([&] {
          return kv::Page{page.size(), more ? 1U : 0U};
        });
      });
}

}  // namespace

int main(int argc, char** argv) {
  int number = kv::kEndpoint;
  size_t mebibytes = 256;
  CLI::App app("A key-value store for the processes of its distributed container.", "kv-server");
  app.add_option("--endpoint", number, "Where clients find it")->capture_default_str();
  app.add_option("--memory", mebibytes, "Limit for keys and values, MiB")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  auto self = dvk::Endpoint::create(number);
  kv::Store store(mebibytes << 20);
  while (self) {
    std::printf("kv-server serves at endpoint %d\n", self->number());
    std::fflush(stdout);
    const Status ended = serve(*self, store);
    if (ended.error() != EDVSSHUTDOWN) {
      std::fprintf(stderr, "kv-server: %s\n", ended.error_name());
      return 1;
    }
    // The cluster gave this node up, and is binding its endpoints again.
    self->release();
    self = dvk::Endpoint::given(std::chrono::seconds(30));
  }
  std::fprintf(stderr, "kv-server: cannot have endpoint %d: %s\n", number, self.error_name());
  return 1;
}
