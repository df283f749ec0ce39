#include "emulator_misuse.hpp"

namespace usmlite::check {

namespace {
std::string wanted;  // the only name to try; empty for all
}

void attempt(const std::string& name, const std::function<void()>& body) {
  if (!wanted.empty() && name != wanted) return;
  std::string code = "none", message;
  try {
    body();
  } catch (const Error& error) {
    code = error.code();
    message = error.what();
  }
  std::printf("%s\t%s\t%s\n", name.c_str(), code.c_str(), message.c_str());
}

void attempt_kernel(const std::string& name, void (*kernel)(uint32_t*), unsigned threads, unsigned blocks, unsigned cluster) {
  attempt(name, [&] {
    const DeviceArray<uint32_t> array(std::vector<uint32_t>(64));
    cuda::launch(kernel, {blocks, 1, 1, threads, kSharedBytes, cluster}, nullptr, array.data());
  });
}

}  // namespace usmlite::check

// usage: emulator_misuse [NAME]      one kernel alone. Built by nvcc for a GPU there are only those of rings.
int main(int count, char** words) {
  if (count > 1) usmlite::check::wanted = words[1];
  usmlite::check::attempt_misuse_of_rings();
#ifndef __CUDACC__
  usmlite::check::attempt_misuse_of_threads();
  usmlite::check::attempt_misuse_of_global_order();
  usmlite::check::attempt_misuse_of_copies();
  usmlite::check::attempt_misuse_of_products();
#endif
}
