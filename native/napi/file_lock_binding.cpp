// Locks of open files and folders, flock(2): the system takes them back when their process ends, however it ends.
#include <sys/file.h>

#include <cerrno>
#include <limits>

#include "napi/arguments.hpp"
#include "napi/groups.hpp"

namespace usmlite::binding {
namespace {

// lockFile(descriptor) -> "locked"; "busy" when it was opened, and is locked, elsewhere; "unsupported" where the file system has no locks.
// The lock goes with the descriptor.
Napi::Value lock_file(const Napi::CallbackInfo& info) {
  Arguments arguments(info, "lockFile", 1);
  const int64_t descriptor = arguments.integer(0, "descriptor", 0, std::numeric_limits<int>::max());
  int failure = 0;
  do {
    failure = flock(static_cast<int>(descriptor), LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  } while (failure == EINTR);
  return Napi::String::New(info.Env(), failure == 0 ? "locked" : failure == EWOULDBLOCK ? "busy" : "unsupported");
}

}  // namespace

void define_file_lock(Napi::Object exports) { define<lock_file>(exports, "lockFile"); }

}  // namespace usmlite::binding
