// One pool of worker threads for the whole process. USMLITE_THREADS sets its size (default: all cores).
#pragma once
#include <cstdint>
#include <functional>

namespace usmlite {

/// Threads that take part in parallel_for, the calling one included.
int thread_count();
/// Replaces the pool. Waits for a running parallel_for. Throws INVALID_ARGUMENT outside 1..256.
void set_thread_count(int count);

/// Calls body(begin_i, end_i) over a fixed partition of [0, count) into at most thread_count() contiguous parts of at
/// least `grain` items, and waits for all of them. The partition depends only on count, grain and thread_count(), so
/// results are reproducible. Calls from several JavaScript workers at once, and nested calls, run on the calling
/// thread alone. An exception thrown by body is rethrown here.
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body);

/// How many parts parallel_for makes of `count`.
int part_count(int64_t count, int64_t grain);
/// The same over `parts` parts, where body also learns the index of its own (0 .. parts-1): for partial sums. The number is the
/// caller's, from part_count(), since another JavaScript worker may change thread_count() in between.
void parallel_parts(int64_t count, int parts,
                    const std::function<void(int part, int64_t begin, int64_t end)>& body);

/// Hands out 0, 1, .. count-1 one by one to whichever thread is free: for items of very unequal cost whose results
/// do not depend on who computes them.
void parallel_dynamic(int64_t count, const std::function<void(int64_t index)>& body);

}  // namespace usmlite
