// What the checks of device instructions (gpu_*.cu) share: memory of the GPU or of the emulated one, random numbers, and a
// report of one line per check. The same sources are built by nvcc for a GPU and by the host's compiler with native/emu.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.hpp"
#include "cuda/launch.hpp"
#include "cuda/ptx.cuh"

#ifndef __CUDACC__
#include "emu/global_memory.hpp"
#endif

namespace usmlite::check {

/// An array in device memory, copied from and to the host.
template <typename T> class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : size_(values.size()) {
    const size_t bytes = size_ * sizeof(T);
#ifdef __CUDACC__
    if (cudaMalloc(reinterpret_cast<void**>(&data_), bytes) != cudaSuccess)
      throw Error(error_code::kOutOfMemory, "no device memory");
    cudaMemcpy(data_, values.data(), bytes, cudaMemcpyHostToDevice);
#else
    data_ = static_cast<T*>(emu::global_memory::allocate(bytes));
    std::memcpy(data_, values.data(), bytes);
#endif
  }
  ~DeviceArray() {
#ifdef __CUDACC__
    cudaFree(data_);
#else
    emu::global_memory::release(data_);
#endif
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  /// The values after all kernels have ended.
  std::vector<T> values() const {
    std::vector<T> result(size_);
#ifdef __CUDACC__
    const cudaError_t code = cudaMemcpy(result.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost);
    if (code != cudaSuccess) throw Error(error_code::kGpuFailed, cudaGetErrorString(code));
#else
    std::memcpy(result.data(), data_, size_ * sizeof(T));
#endif
    return result;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

/// The first difference, or an empty string.
template <typename T> std::string difference(const std::vector<T>& actual, const std::vector<T>& expected) {
  for (size_t i = 0; i < expected.size(); ++i)
    if (std::memcmp(&actual[i], &expected[i], sizeof(T)) != 0)
      return "value " + std::to_string(i) + " is " + std::to_string(actual[i]) + ", not " + std::to_string(expected[i]);
  return "";
}

/// One check: runs `body`, which returns what is wrong or throws, and prints a line, OK or FAIL.
void report(const std::string& name, const std::function<std::string()>& body);

inline int random_between(std::mt19937& random, int least, int most) {
  return std::uniform_int_distribution<int>(least, most)(random);
}

/// Elements of tensor cores that hold small whole numbers exactly, and the numbers used to check them.
template <typename T> struct Encoding;
template <> struct Encoding<cuda::BFloat16> {
  static constexpr const char* kName = "bf16";
  static constexpr int kBytes = 2, kMost = 9;
  static uint32_t bits(int value) {
    const float x = static_cast<float>(value);
    uint32_t word;
    std::memcpy(&word, &x, 4);
    return word >> 16;
  }
};
template <> struct Encoding<cuda::Float16> {
  static constexpr const char* kName = "f16";
  static constexpr int kBytes = 2, kMost = 9;
  static uint32_t bits(int value) {
    const uint32_t word = Encoding<cuda::BFloat16>::bits(value);  // sign, 8 bits of exponent, 7 of mantissa
    return value == 0 ? 0 : (word & 0x8000) | ((word >> 7 & 0xff) - 112) << 10 | (word & 0x7f) << 3;
  }
};
template <> struct Encoding<cuda::Float8E4M3> {
  static constexpr const char* kName = "e4m3";
  static constexpr int kBytes = 1, kMost = 9;
  static uint32_t bits(int value) {
    const uint32_t word = Encoding<cuda::BFloat16>::bits(value);
    return value == 0 ? 0 : (word >> 8 & 0x80) | ((word >> 7 & 0xff) - 120) << 3 | (word >> 4 & 7);
  }
};
template <> struct Encoding<cuda::Int8> {
  static constexpr const char* kName = "s8";
  static constexpr int kBytes = 1, kMost = 127;
  static uint32_t bits(int value) { return static_cast<uint8_t>(value); }
};
template <typename T> using Sum = std::conditional_t<std::is_same_v<T, cuda::Int8>, int32_t, float>;

// Each file's checks, in gpu_*.cu.
void check_memory_instructions();
void check_copy_engine();
void check_number_instructions();
void check_warp_products();
void check_warpgroup_products();

}  // namespace usmlite::check
