// The plan of a log-mel front end that JavaScript holds.
#pragma once
#include <napi.h>

#include "audio/log_mel_plan.hpp"
#include "napi/arguments.hpp"

namespace usmlite::binding {

/// Throws INVALID_ARGUMENT when `value`, the first argument, is none.
const audio::LogMelPlan& log_mel_argument(const Arguments& arguments, Napi::Value value);

}  // namespace usmlite::binding
