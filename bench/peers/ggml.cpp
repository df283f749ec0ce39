// The peer process of bench/peers/ggml.ts: multiplies matrices with ggml and tells how long it took.
// Reads lines "type m n k repetitions", type as ggml names it (tq2_0, q4_0), and answers each with the milliseconds of every
// repetition. The only argument is the number of threads.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "ggml-cpu.h"
#include "ggml.h"

namespace {

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ggml_type type_of(const std::string& name) {
  for (int type = 0; type < GGML_TYPE_COUNT; ++type) {
    const char* own = ggml_type_name(static_cast<ggml_type>(type));
    if (own && name == own) return static_cast<ggml_type>(type);
  }
  return GGML_TYPE_F32;
}

}  // namespace

int main(int, char** words) {
  const int threads = std::atoi(words[1]);
  ggml_threadpool_params parameters = ggml_threadpool_params_default(threads);
  parameters.poll = 0;  // its threads must not spin while another contestant has its turn
  ggml_threadpool* pool = ggml_threadpool_new(&parameters);
  std::printf("%s\n", ggml_version());
  std::fflush(stdout);
  std::string name, current;
  long m, n, k, repetitions;
  ggml_context* context = nullptr;
  ggml_cgraph* graph = nullptr;
  while (std::cin >> name >> m >> n >> k >> repetitions) {
    const std::string key = name + " " + std::to_string(m) + " " + std::to_string(n) + " " + std::to_string(k);
    if (key != current) {
      current = key;
      if (context) ggml_free(context);
      context = ggml_init({static_cast<size_t>(n * k * 5 + m * k * 8 + m * n * 4 + (64 << 20)), nullptr, false});
      ggml_tensor* weight = ggml_new_tensor_2d(context, type_of(name), k, n);
      ggml_tensor* x = ggml_new_tensor_2d(context, GGML_TYPE_F32, k, m);
      std::vector<float> values(static_cast<size_t>(std::max(n, m) * k));
      unsigned state = 1;
      for (float& value : values) {
        state = state * 1664525u + 1013904223u;
        value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
      }
      ggml_quantize_chunk(weight->type, values.data(), weight->data, 0, n, k, nullptr);
      std::memcpy(x->data, values.data(), static_cast<size_t>(m * k) * sizeof(float));
      graph = ggml_new_graph(context);
      ggml_build_forward_expand(graph, ggml_mul_mat(context, weight, x));
    }
    ggml_cplan plan = ggml_graph_plan(graph, threads, pool);
    std::vector<uint8_t> work(plan.work_size + 64);
    plan.work_data = work.data();
    for (long i = 0; i < repetitions; ++i) {
      const double begin = now();
      ggml_graph_compute(graph, &plan);
      std::printf("%s%.6f", i ? " " : "", now() - begin);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}
