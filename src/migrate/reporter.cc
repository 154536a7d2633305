#include "migrate/reporter.h"

namespace dvs {
namespace {

constexpr auto kTellLimit = std::chrono::seconds(5);
constexpr auto kAgain = std::chrono::milliseconds(100);
constexpr int kAttempts = 40;

}  // namespace

void Reporter::tell(const MigrationRecord& record, const char* call, Json args) {
  args["id"] = record.id;
  peers_.call(record.coordinator, call, std::move(args), kTellLimit, [](Result<Json>) {});
}

void Reporter::phase(const MigrationRecord& record, const char* phase) {
  tell(record, "migrate.phase", {{"phase", phase}});
}

void Reporter::progress(const MigrationRecord& record, uint64_t sent, uint64_t total) {
  tell(record, "migrate.progress", {{"sent", sent}, {"total", total}});
}

void Reporter::round(const MigrationRecord& record, const CopyingSchedule& schedule) {
  tell(record, "migrate.round", to_json(schedule));
}

void Reporter::done(const MigrationRecord& record, Json report, int attempt) {
  if (attempt == kAttempts) return;
  report["id"] = record.id;
  peers_.call(record.coordinator, "migrate.done", report, kTellLimit,
              [weak = weak_from_this(), record, report, attempt](Result<Json> told) {
                auto self = weak.lock();
                if (self == nullptr || told.ok() || told.error().code() == Code::kNotFound) return;
                self->scheduler_.after(kAgain, [weak, record, report, attempt] {
                  if (auto again = weak.lock()) again->done(record, report, attempt + 1);
                });
              });
}

}  // namespace dvs
