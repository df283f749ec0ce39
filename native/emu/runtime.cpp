// The emulated device seen as a driver: memory of the process, and streams whose work is done when it is given.
//
// To test what happens when something is missing or fails, the environment may describe another device:
//   USMLITE_EMULATED_GPU         none, old-driver or old (a GPU before compute capability 8.0)
//   USMLITE_EMULATED_CAPABILITY  its compute capability (capability.hpp)
//   USMLITE_EMULATED_MEMORY      bytes of memory
//   USMLITE_EMULATED_FAILURE     after how many waits the GPU fails for good
#include "cuda/recorded_work.hpp"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "core/error.hpp"
#include "cuda/host_traffic.hpp"
#include "emu/capability.hpp"
#include "emu/global_memory.hpp"
#include "emu/recorded_launches.hpp"

namespace usmlite::cuda {
namespace {

int64_t number_from(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::atoll(text) : otherwise;
}

struct Gpu {
  GpuAvailability availability;
  GpuProperties properties;
};

Gpu find_gpu() {
  Gpu gpu;
  const emu::Capability& capability = emu::capability();
  gpu.properties = {"emulated GPU", capability.number, 4, number_from("USMLITE_EMULATED_MEMORY", int64_t{1} << 30), 1 << 20,
                    static_cast<int>(capability.shared_bytes), 0, 0, true};
  const char* shown = std::getenv("CUDA_VISIBLE_DEVICES");  // there is one, 0
  if (shown && std::string_view(shown) != "0") gpu.availability = {error_code::kNoGpu, "the emulated driver shows no GPU"};
  const char* kind = std::getenv("USMLITE_EMULATED_GPU");
  const std::string_view missing = kind ? kind : "";
  if (missing == "none") gpu.availability = {error_code::kNoGpu, "the emulated driver shows no GPU"};
  if (missing == "old-driver") gpu.availability = {error_code::kDriverTooOld, "the emulated driver is too old"};
  if (missing == "old") gpu.availability = {error_code::kNoGpu, "the emulated GPU has compute capability 7.5; 8.0 (Ampere) or later is needed"};
  return gpu;
}

const Gpu& gpu() {
  static const Gpu found = find_gpu();
  return found;
}

struct Memory {
  std::mutex mutex;
  std::map<void*, size_t> blocks;
  int64_t used = 0;
};

Memory& memory() {
  static auto* instance = new Memory;  // leaked: tensors may go after static destructors have run
  return *instance;
}

void refuse_while_recording(const char* what) {
  if (emu::is_recording()) throw Error(error_code::kGpuFailed, std::string("the GPU failed while recording work: it cannot ") + what);
}

// A GPU that has failed fails in every later wait too.
void wait() {
  refuse_while_recording("be waited for");
  ++host_traffic.waits;
  emu::finish_copies();
  static std::atomic<int64_t> waits_left{number_from("USMLITE_EMULATED_FAILURE", INT64_MAX)};
  if (waits_left.fetch_sub(1) > 0) return;
  waits_left = 0;
  throw Error(error_code::kGpuFailed, "the GPU failed while finishing the work it was given: emulated failure");
}

void copy_rows(void* to, size_t to_stride, const void* from, size_t from_stride, size_t row_bytes, size_t rows) {
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<char*>(to) + row * to_stride, static_cast<const char*>(from) + row * from_stride, row_bytes);
  }
}

int64_t nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

const GpuAvailability& gpu_availability() { return gpu().availability; }

const GpuProperties& gpu_properties() {
  const Gpu& found = gpu();
  if (found.availability.code) throw Error(found.availability.code, found.availability.sentence);
  return found.properties;
}

namespace driver {

void* allocate(size_t bytes) {
  Memory& m = memory();
  std::lock_guard lock(m.mutex);
  if (m.used + static_cast<int64_t>(bytes) > gpu_properties().memory_bytes) return nullptr;
  void* block = emu::global_memory::allocate(bytes);
  if (!block) return nullptr;
  m.blocks[block] = bytes;
  m.used += static_cast<int64_t>(bytes);
  return block;
}

void release(void* block) noexcept {
  emu::finish_copies();
  Memory& m = memory();
  std::lock_guard lock(m.mutex);
  const auto entry = m.blocks.find(block);
  m.used -= static_cast<int64_t>(entry->second);
  m.blocks.erase(entry);
  emu::global_memory::release(block);
}

size_t allocation_granularity() { return 1; }

int64_t free_memory() {
  Memory& m = memory();
  std::lock_guard lock(m.mutex);
  return gpu_properties().memory_bytes - m.used;
}

void* allocate_host(size_t bytes) {
  gpu_properties();
  return std::malloc(bytes);
}

void release_host(void* memory) noexcept { std::free(memory); }

StreamHandle create_stream() {
  gpu_properties();
  return new char;
}

void destroy_stream(StreamHandle stream) noexcept { delete static_cast<char*>(stream); }

void synchronize(StreamHandle) { wait(); }

void synchronize_all() { wait(); }

void wait_for(StreamHandle, StreamHandle) { refuse_while_recording("wait for another stream"); }

void copy_to_device(void* device, size_t device_stride, const void* host, size_t host_stride, size_t row_bytes, size_t rows,
                    StreamHandle) {
  refuse_while_recording("copy from the host");
  host_traffic.to_device.add(row_bytes * rows);
  ++host_traffic.waits;
  emu::finish_copies();
  copy_rows(device, device_stride, host, host_stride, row_bytes, rows);
}

void begin_copy_to_device(void* device, size_t device_stride, const void* pinned, size_t pinned_stride, size_t row_bytes, size_t rows,
                          StreamHandle) {
  refuse_while_recording("copy from the host");
  host_traffic.to_device.add(row_bytes * rows);
  emu::begin_copy([=] { copy_rows(device, device_stride, pinned, pinned_stride, row_bytes, rows); });
}

void begin_copy_to_host(void* pinned, size_t pinned_stride, const void* device, size_t device_stride, size_t row_bytes, size_t rows,
                        StreamHandle) {
  refuse_while_recording("copy to the host");
  host_traffic.to_host.add(row_bytes * rows);
  emu::begin_copy([=] { copy_rows(pinned, pinned_stride, device, device_stride, row_bytes, rows); });
}

void copy_to_host(void* host, size_t host_stride, const void* device, size_t device_stride, size_t row_bytes, size_t rows,
                  StreamHandle) {
  wait();
  host_traffic.to_host.add(row_bytes * rows);
  copy_rows(host, host_stride, device, device_stride, row_bytes, rows);
}

void copy_on_device(void* to, const void* from, size_t bytes, StreamHandle) {
  emu::perform([=] { std::memcpy(to, from, bytes); });
}

void fill(void* device, uint8_t byte, size_t bytes, StreamHandle) {
  emu::perform([=] { std::memset(device, byte, bytes); });
}

namespace {

/// All but copies is done when it is asked for.
struct Moment {
  int64_t time;
  uint64_t copies;  // begun before it
};

Moment& moment(void* event) { return *static_cast<Moment*>(event); }

}  // namespace

Event::Event() : event_((gpu_properties(), new Moment{})) {}
Event::~Event() { delete &moment(event_); }
void Event::record(StreamHandle) {
  refuse_while_recording("record an event");
  moment(event_) = {nanoseconds(), emu::begun_copies()};
}
bool Event::done() const { return emu::finished_copies() >= moment(event_).copies; }
void Event::synchronize() const { wait(); }
double Event::milliseconds_since(const Event& earlier) const {
  wait();
  return static_cast<double>(moment(event_).time - moment(earlier.event_).time) / 1e6;
}

RecordedWork::RecordedWork(StreamHandle, std::function<void()> work) : recorded_(new emu::RecordedLaunches(emu::record(work))) {
  operations_ = static_cast<emu::RecordedLaunches*>(recorded_)->size();
}
RecordedWork::~RecordedWork() { delete static_cast<emu::RecordedLaunches*>(recorded_); }
void RecordedWork::run(StreamHandle) {
  emu::finish_copies();
  for (const auto& launch : *static_cast<emu::RecordedLaunches*>(recorded_)) launch();
}

}  // namespace driver
}  // namespace usmlite::cuda
