// Whether the instructions behind cuda/ptx.cuh do what they are described to do: on the GPU, or on the emulated one.
//
// After some mistakes a GPU does nothing more for a process. Checks therefore run in a child process; when one fails,
// another child goes on with the next.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device_check.hpp"

namespace usmlite::check {

namespace {

struct Progress {
  int begun;  // checks, also those of earlier children
  int failed;
};
Progress* progress;  // shared by parent and children
int seen = 0;        // checks that this child came by

}  // namespace

void report(const std::string& name, const std::function<std::string()>& body) {
  if (seen++ < progress->begun) return;
  ++progress->begun;
  std::string problem;
  try {
    problem = body();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  std::printf("%s %s%s%s\n", problem.empty() ? "OK" : "FAIL", name.c_str(), problem.empty() ? "" : ": ", problem.c_str());
  std::fflush(stdout);
  if (problem.empty()) return;
  ++progress->failed;
  std::_Exit(1);
}

}  // namespace usmlite::check

int main() {
  using namespace usmlite::check;
  progress = static_cast<Progress*>(mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (int status = 1; status != 0;) {
    const int begun = progress->begun;
    const pid_t child = fork();
    if (child == 0) {
      check_number_instructions();
      check_memory_instructions();
      check_warp_products();
      check_copy_engine();
      check_warpgroup_products();
      std::_Exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return 2;
    if (status != 0 && !WIFEXITED(status)) {
      std::printf("FAIL the process ended by signal %d\n", WTERMSIG(status));
      ++progress->failed;
    }
    if (status != 0 && progress->begun == begun) return 2;  // not even one check
  }
  std::printf("%d failed\n", progress->failed);
  return progress->failed == 0 ? 0 : 1;
}
