// Objects that the workers of this process share.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace usmlite::binding {

/// Objects that workers may ask for by number. A number does not keep its object alive: handles do.
template <typename T> class SharedObjects {
 public:
  uint64_t share(const std::shared_ptr<T>& object) {
    std::lock_guard lock(mutex_);
    std::erase_if(objects_, [](const auto& entry) { return entry.second.expired(); });
    for (const auto& [id, shared] : objects_) {
      if (shared.lock() == object) return id;
    }
    objects_[next_] = object;
    return next_++;
  }
  /// Null when nobody keeps it any more.
  std::shared_ptr<T> find(uint64_t id) {
    std::lock_guard lock(mutex_);
    const auto entry = objects_.find(id);
    return entry == objects_.end() ? nullptr : entry->second.lock();
  }

  /// Those of this type. Leaked: workers may end after static destructors have run.
  static SharedObjects& all() {
    static auto* objects = new SharedObjects;
    return *objects;
  }

 private:
  std::mutex mutex_;
  std::map<uint64_t, std::weak_ptr<T>> objects_;
  uint64_t next_ = 1;
};

}  // namespace usmlite::binding
