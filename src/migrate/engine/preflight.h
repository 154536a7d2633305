// What can be known before anything is stopped: does the target's CPU offer what a process of the
// source may have found there?
#pragma once

#include <string>

#include "migrate/engine/engine.h"

namespace dvs {

// See Engine::describe_cpu() and Engine::check_cpu().
void describe_cpu(Executor& executor, const CriuOptions& options, const std::string& scratch_dir,
                  Done<std::string> done);
void check_cpu(Executor& executor, const CriuOptions& options, const std::string& scratch_dir,
               const std::string& description, Done<bool> done);

}  // namespace dvs
