#include "core/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <immintrin.h>

#include "core/error.hpp"

namespace usmlite {
namespace {

constexpr int kMaximumThreads = 256;
// A worker spins this long for the next job before it sleeps: operations of a model follow each other within
// microseconds, and waking a sleeping thread costs about fifty.
constexpr int kSpinIterations = 4000;

thread_local bool inside_pool_job = false;

class ThreadPool {
 public:
  // Of as many threads as the system allows, where it does not allow all.
  explicit ThreadPool(int threads) : claims_(static_cast<size_t>(threads)) {
    workers_.reserve(static_cast<size_t>(threads));
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {
    }
  }
  ~ThreadPool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs job(index) for index 0..parts-1. Each thread takes its own part first, whose data its cache may hold, then any
  // that nobody has begun: a part never waits for a thread that sleeps or that the system runs something else on.
  // One caller at a time (holds run_mutex).
  void run(int parts, const std::function<void(int)>& job) {
    const uint64_t generation = generation_.load(std::memory_order_relaxed) + 1;
    job_ = &job;
    failure_ = nullptr;
    finished_.store(0, std::memory_order_relaxed);
    // A late worker of an earlier generation fails to claim from here on.
    for (int part = 0; part < parts; ++part) claims_[part].store(open(generation), std::memory_order_release);
    {
      std::lock_guard lock(mutex_);
      parts_.store(parts, std::memory_order_relaxed);
      generation_.store(generation, std::memory_order_release);
    }
    wake_.notify_all();
    execute(0, parts, generation);
    for (int spins = 0; finished_.load(std::memory_order_acquire) != parts; ++spins) {
      if (spins < kSpinIterations) _mm_pause();
      else std::this_thread::yield();
    }
    if (failure_) std::rethrow_exception(failure_);
  }

  std::mutex run_mutex;

 private:
  // What a part's claim holds: its generation, and whether a thread has begun it.
  static uint64_t open(uint64_t generation) { return generation << 1; }
  static uint64_t begun(uint64_t generation) { return generation << 1 | 1; }

  // Takes parts of this generation, beginning with its own, until all have been taken. A part that is claimed keeps run()
  // waiting, so that job_ is valid meanwhile.
  void execute(int own, int parts, uint64_t generation) {
    for (int i = 0; i < parts; ++i) {
      const int part = (own + i) % parts;
      uint64_t expected = open(generation);
      if (!claims_[part].compare_exchange_strong(expected, begun(generation), std::memory_order_acq_rel)) continue;
      inside_pool_job = true;
      try {
        (*job_)(part);
      } catch (...) {
        std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
      inside_pool_job = false;
      finished_.fetch_add(1, std::memory_order_release);
    }
  }

  void work(int index) {
    uint64_t seen = 0;
    for (;;) {
      int spins = 0;
      while (generation_.load(std::memory_order_acquire) == seen) {
        if (++spins < kSpinIterations) {
          _mm_pause();
          continue;
        }
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      // Claims of another generation than `seen` are refused, so a newer number of parts does no harm.
      const int parts = parts_.load(std::memory_order_relaxed);
      if (index < parts) execute(index, parts, seen);
    }
  }

  std::vector<std::thread> workers_;
  std::vector<std::atomic<uint64_t>> claims_;  // one for each part
  std::mutex mutex_;
  std::mutex failure_mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> parts_{0};
  std::atomic<int> finished_{0};
  std::atomic<bool> stopping_{false};
  const std::function<void(int)>* job_ = nullptr;
  std::exception_ptr failure_;
};

int initial_thread_count() {
  if (const char* text = std::getenv("USMLITE_THREADS")) {
    const int wanted = std::atoi(text);
    if (wanted >= 1 && wanted <= kMaximumThreads) return wanted;
  }
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaximumThreads);
}

std::mutex pool_mutex;
std::atomic<int> pool_size{0};  // 0: no pool yet; asked for before every operation, by all threads

std::shared_ptr<ThreadPool>& pool_slot() {
  // Leaked: joining threads from a static destructor while Node.js tears down would deadlock.
  static auto* slot = [] {
    auto* first = new std::shared_ptr<ThreadPool>(std::make_shared<ThreadPool>(initial_thread_count()));
    pool_size.store((*first)->size(), std::memory_order_release);
    return first;
  }();
  return *slot;
}

std::shared_ptr<ThreadPool> pool() {
  std::lock_guard lock(pool_mutex);
  return pool_slot();
}

// Runs job over parts in the pool, or one after another here when the pool is taken.
void run_parts(int parts, const std::function<void(int)>& job) {
  if (parts > 1 && !inside_pool_job) {
    auto current = pool();
    std::unique_lock lock(current->run_mutex, std::try_to_lock);
    if (lock.owns_lock() && parts <= current->size()) {
      current->run(parts, job);
      return;
    }
  }
  for (int part = 0; part < parts; ++part) job(part);
}

}  // namespace

int thread_count() {
  const int size = pool_size.load(std::memory_order_acquire);
  return size > 0 ? size : pool()->size();
}

void set_thread_count(int count) {
  if (count < 1 || count > kMaximumThreads) {
    throw Error(error_code::kInvalidArgument,
                "thread count is " + std::to_string(count) + "; it must be between 1 and 256");
  }
  auto old = pool();
  if (old->size() == count) return;
  std::lock_guard running(old->run_mutex);
  std::lock_guard lock(pool_mutex);
  pool_slot() = std::make_shared<ThreadPool>(count);
  pool_size.store(pool_slot()->size(), std::memory_order_release);
}

int part_count(int64_t count, int64_t grain) {
  if (count <= 0) return 0;
  const int64_t by_grain = (count + grain - 1) / std::max<int64_t>(grain, 1);
  return static_cast<int>(std::min<int64_t>(thread_count(), by_grain));
}

void parallel_parts(int64_t count, int parts,
                    const std::function<void(int part, int64_t begin, int64_t end)>& body) {
  run_parts(parts, [&](int part) {
    const int64_t begin = count * part / parts;
    const int64_t end = count * (part + 1) / parts;
    body(part, begin, end);
  });
}

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body) {
  parallel_parts(count, part_count(count, grain), [&](int, int64_t begin, int64_t end) { body(begin, end); });
}

void parallel_dynamic(int64_t count, const std::function<void(int64_t index)>& body) {
  std::atomic<int64_t> next{0};
  run_parts(static_cast<int>(std::min<int64_t>(thread_count(), count)), [&](int) {
    for (int64_t index; (index = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(index);
  });
}

}  // namespace usmlite
