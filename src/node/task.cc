#include "node/task.h"

namespace dvs {

Json to_json(const Task& task) {
  Json json = {{"id", task.id},     {"command", task.command},       {"root_pid", task.root_pid},
               {"slot", task.slot}, {"started_ns", task.started_ns}, {"ended", task.ended}};
  if (task.exit_status.has_value()) json["exit_status"] = *task.exit_status;
  return json;
}

Result<Task> task_from_json(const Json& json) {
  Task task;
  DVS_ASSIGN(task.id, json_get<std::string>(json, "id"));
  DVS_ASSIGN(task.command, json_get<std::vector<std::string>>(json, "command"));
  DVS_ASSIGN(task.root_pid, json_get<int>(json, "root_pid"));
  DVS_ASSIGN(task.slot, json_get<uint32_t>(json, "slot"));
  DVS_ASSIGN(task.started_ns, json_get<int64_t>(json, "started_ns"));
  DVS_ASSIGN(task.ended, json_get<bool>(json, "ended"));
  const bool plain = !task.id.empty() && task.id.find_first_of("/.") == std::string::npos;
  if (!plain || task.command.empty())
    return Error(Code::kCorrupt, "a task without name or command");
  if (json.contains("exit_status")) {
    DVS_ASSIGN(int status, json_get<int>(json, "exit_status"));
    task.exit_status = status;
  }
  return task;
}

}  // namespace dvs
