#include "migrate/engine/criu_log.h"
namespace dvs { Error explain_criu_log(std::string_view log) { return Error(Code::kInternal, std::string(log)); } }
