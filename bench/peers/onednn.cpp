// The peer process of bench/peers/onednn.ts: multiplies matrices with oneDNN and tells how long it took.
// Reads lines "type m n k repetitions", type f32 or u8s8, and answers each with the milliseconds of every repetition.
// Weights (k, n) are put into the layout that oneDNN likes best before the clock starts; u8s8 gives 32-bit sums, without
// turning activations into bytes or sums into floats.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <dnnl.hpp>

namespace {

using dnnl::memory;

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Any values will do, as long as they are neither all equal nor denormal.
void fill(memory& target, memory::data_type type) {
  const size_t bytes = target.get_desc().get_size();
  unsigned state = 1;
  const auto next = [&] { return (state = state * 1664525u + 1013904223u) >> 8; };
  if (type == memory::data_type::f32) {
    auto* values = static_cast<float*>(target.get_data_handle());
    for (size_t i = 0; i < bytes / 4; ++i) values[i] = static_cast<float>(next()) / 8388608.0f - 1.0f;
  } else {
    auto* values = static_cast<uint8_t*>(target.get_data_handle());
    for (size_t i = 0; i < bytes; ++i) values[i] = static_cast<uint8_t>(next());
  }
}

class Product {
 public:
  Product(const dnnl::engine& engine, const std::string& type, long m, long n, long k) {
    const bool floats = type == "f32";
    const auto x_type = floats ? memory::data_type::f32 : memory::data_type::u8;
    const auto w_type = floats ? memory::data_type::f32 : memory::data_type::s8;
    const auto y_type = floats ? memory::data_type::f32 : memory::data_type::s32;
    const memory::desc x({m, k}, x_type, memory::format_tag::ab), w({k, n}, w_type, memory::format_tag::any);
    const memory::desc y({m, n}, y_type, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, w, y), engine);
    product_ = dnnl::matmul(description);
    x_ = memory(x, engine);
    w_ = memory(description.weights_desc(), engine);
    y_ = memory(y, engine);
    fill(x_, x_type);
    memory plain({{k, n}, w_type, memory::format_tag::ab}, engine);
    fill(plain, w_type);
    dnnl::stream stream(engine);
    dnnl::reorder(plain, w_).execute(stream, plain, w_);
    stream.wait();
  }
  void run(dnnl::stream& stream) {
    product_.execute(stream, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, w_}, {DNNL_ARG_DST, y_}});
    stream.wait();
  }

 private:
  dnnl::matmul product_;
  memory x_, w_, y_;
};

}  // namespace

int main() {
  const dnnl_version_t* version = dnnl_version();
  std::printf("%d.%d.%d\n", version->major, version->minor, version->patch);
  std::fflush(stdout);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  std::string type;
  long m, n, k, repetitions;
  std::map<std::tuple<std::string, long, long, long>, std::unique_ptr<Product>> products;
  while (std::cin >> type >> m >> n >> k >> repetitions) {
    auto& product = products[{type, m, n, k}];
    if (!product) {
      if (products.size() > 4) {  // those of the case before
        products.clear();
      }
      products[{type, m, n, k}] = std::make_unique<Product>(engine, type, m, n, k);
    }
    Product& current = *products[{type, m, n, k}];
    for (long i = 0; i < repetitions; ++i) {
      const double begin = now();
      current.run(stream);
      std::printf("%s%.6f", i ? " " : "", now() - begin);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}
