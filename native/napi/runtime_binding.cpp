// Process-wide settings: instruction set, threads, memory.
#include "core/allocator.hpp"
#include "core/instruction_set.hpp"
#include "core/thread_pool.hpp"
#include "napi/arguments.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

Napi::Value get_thread_count(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), thread_count()); }

Napi::Value set_thread_count_(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "setThreadCount", 1);
  set_thread_count(static_cast<int>(arguments.integer(0, "count", 1, 256)));
  return info.Env().Undefined();
}

Napi::Value get_instruction_set(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), name_of(active_instruction_set()));
}

Napi::Value set_instruction_set_(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "setInstructionSet", 1);
  set_instruction_set(arguments.text(0, "name"));
  return info.Env().Undefined();
}

Napi::Value get_available_instruction_sets(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const std::string& name : available_instruction_sets()) names.Set(names.Length(), name);
  return names;
}

Napi::Value memory_statistics(const Napi::CallbackInfo& info) {
  const MemoryStatistics statistics = allocator::statistics();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("bytesInUse", static_cast<double>(statistics.bytes_in_use));
  result.Set("peakBytes", static_cast<double>(statistics.peak_bytes));
  result.Set("bytesCached", static_cast<double>(statistics.bytes_cached));
  result.Set("allocations", static_cast<double>(statistics.allocations));
  return result;
}

Napi::Value reset_peak_memory(const Napi::CallbackInfo& info) {
  allocator::reset_peak();
  return info.Env().Undefined();
}

Napi::Value trim_memory(const Napi::CallbackInfo& info) {
  allocator::trim();
  return info.Env().Undefined();
}

}  // namespace

void define_runtime(Napi::Object exports) {
  define<get_thread_count>(exports, "threadCount");
  define<set_thread_count_>(exports, "setThreadCount");
  define<get_instruction_set>(exports, "instructionSet");
  define<set_instruction_set_>(exports, "setInstructionSet");
  define<get_available_instruction_sets>(exports, "availableInstructionSets");
  define<memory_statistics>(exports, "memoryStatistics");
  define<reset_peak_memory>(exports, "resetPeakMemory");
  define<trim_memory>(exports, "trimMemory");
}

}  // namespace usmlite::binding
