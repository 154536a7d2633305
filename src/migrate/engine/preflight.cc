#include "migrate/engine/preflight.h"

#include <boost/asio/post.hpp>

#include "base/child.h"
#include "base/file.h"
#include "migrate/engine/criu_log.h"

namespace dvs {
namespace {

constexpr const char* kImage = "/cpuinfo.img";
constexpr size_t kLongestImage = 64 << 10;

Status run_cpuinfo(Executor& executor, const CriuOptions& options, const std::string& dir,
                   const char* verb, std::function<void(ChildResult)> done) {
  ChildOptions child;
  child.argv = {options.program,      "cpuinfo", verb, "--images-dir", dir, "--cpu-cap=fpu,ins",
                "--no-default-config"};
  child.capture_output = true;
  child.timeout = options.timeout;
  auto pid = run_child(executor, std::move(child), std::move(done));
  return pid.ok() ? Status() : pid.error();
}

template <typename T>
void fail_later(Executor& executor, Done<T> done, const Error& error) {
  boost::asio::post(executor, [done = std::move(done), error] { done(error); });
}

}  // namespace

void describe_cpu(Executor& executor, const CriuOptions& options, const std::string& scratch_dir,
                  Done<std::string> done) {
  auto started = make_dirs(scratch_dir);
  if (started.ok()) {
    started = run_cpuinfo(executor, options, scratch_dir, "dump",
                          [scratch_dir, done](const ChildResult& result) {
                            auto image = read_file(scratch_dir + kImage);
                            auto removed = remove_tree(scratch_dir);
                            if (!result.ok()) return done(explain_criu_log(result.output));
                            done(removed.ok() ? image : removed.error());
                          });
  }
  if (!started.ok()) fail_later(executor, std::move(done), started.error());
}

void check_cpu(Executor& executor, const CriuOptions& options, const std::string& scratch_dir,
               const std::string& description, Done<bool> done) {
  if (description.empty() || description.size() > kLongestImage) {
    return fail_later(executor, std::move(done),
                      Error(Code::kCorrupt, "the description of the source's CPU is damaged"));
  }
  auto started = make_dirs(scratch_dir);
  if (started.ok()) started = replace_file(scratch_dir + kImage, description);
  if (started.ok()) {
    started = run_cpuinfo(executor, options, scratch_dir, "check",
                          [scratch_dir, done](const ChildResult& result) {
                            auto removed = remove_tree(scratch_dir);
                            if (!result.ok()) return done(explain_criu_log(result.output));
                            removed.ok() ? done(true) : done(removed.error());
                          });
  }
  if (!started.ok()) fail_later(executor, std::move(done), started.error());
}

}  // namespace dvs
