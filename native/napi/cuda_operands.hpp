// Checked operands of operations on the GPU.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "napi/cuda_handles.hpp"

namespace usmlite::binding {

/// Tensors on the GPU of the shape and type that an operation needs.
class Operands {
 public:
  Operands(const Arguments& arguments, const Napi::CallbackInfo& info) : arguments_(arguments), info_(info) {}

  /// A matrix of 16-bit floats.
  const cuda::DeviceTensor& floats(size_t index, const char* name) { return held(index, name, Floats::kHalf); }
  /// A matrix of bfloat16, the floats that training computes in.
  const cuda::DeviceTensor& training_floats(size_t index, const char* name) {
    const cuda::DeviceTensor& tensor = floats(index, name);
    if (tensor.type() != cuda::DeviceType::kBFloat16) {
      arguments_.fail(std::string(name) + " is " + cuda::name_of(tensor.type()) + "; it must be bfloat16 in training");
    }
    return tensor;
  }
  /// A matrix or vector of 16-bit floats or float32.
  const cuda::DeviceTensor& any_floats(size_t index, const char* name) { return held(index, name, Floats::kAny); }
  /// Floats of the type and shape of another.
  const cuda::DeviceTensor& like(size_t index, const char* name, const cuda::DeviceTensor& other) {
    return like(index, name, other, other.shape());
  }
  /// Floats of the type of another.
  const cuda::DeviceTensor& like(size_t index, const char* name, const cuda::DeviceTensor& other, std::vector<int64_t> shape) {
    const cuda::DeviceTensor& tensor = held(index, name, Floats::kAny);
    if (tensor.type() != other.type()) {
      arguments_.fail(std::string(name) + " is " + cuda::name_of(tensor.type()) + "; it must be " + cuda::name_of(other.type()) +
                      " like the others");
    }
    check_shape(tensor, name, shape);
    return tensor;
  }
  /// A matrix or vector of float32.
  const cuda::DeviceTensor& singles(size_t index, const char* name) { return held(index, name, Floats::kWide); }
  /// float32 weights.
  const cuda::DeviceTensor& weights(size_t index, const char* name, std::vector<int64_t> shape) {
    const cuda::DeviceTensor& tensor = held(index, name, Floats::kWide);
    check_shape(tensor, name, shape);
    return tensor;
  }
  const cuda::DeviceTensor* optional_weights(size_t index, const char* name, std::vector<int64_t> shape) {
    return arguments_.has(index) ? &weights(index, name, std::move(shape)) : nullptr;
  }
  /// Sequences that cover `frames` rows.
  cuda::PackedSequences sequences(size_t index, int64_t frames, const cuda::Stream& stream) {
    sequences_ = DeviceSequencesObject::from(arguments_, info_[index], "sequences");
    if (sequences_->frames() != frames) {
      arguments_.fail("the sequences have " + std::to_string(sequences_->frames()) + " frames but x has " + std::to_string(frames));
    }
    if (sequences_->has_rows()) arguments_.fail("the sequences are of rows here and there; only attention over a cache takes such");
    return sequences_->use_on(stream);
  }

 private:
  enum class Floats : uint8_t { kHalf, kWide, kAny };

  const cuda::DeviceTensor& held(size_t index, const char* name, Floats floats) {
    held_.push_back(DeviceTensorObject::from(arguments_, info_[index], name));
    const cuda::DeviceTensor& tensor = *held_.back();
    const bool is_half = tensor.type() == cuda::DeviceType::kBFloat16 || tensor.type() == cuda::DeviceType::kFloat16;
    const bool is_wide = tensor.type() == cuda::DeviceType::kFloat32;
    if (!(is_half && floats != Floats::kWide) && !(is_wide && floats != Floats::kHalf)) {
      arguments_.fail(std::string(name) + " is " + cuda::name_of(tensor.type()) + "; it must be " +
                      (floats == Floats::kWide ? "float32" : floats == Floats::kHalf ? "bfloat16 or float16" : "float32, bfloat16 or float16"));
    }
    return tensor;
  }
  void check_shape(const cuda::DeviceTensor& tensor, const char* name, const std::vector<int64_t>& shape) const {
    if (tensor.shape() != shape) {
      arguments_.fail(std::string(name) + " must have shape " + shape_text(shape) + " but has " + shape_text(tensor.shape()));
    }
  }

  const Arguments& arguments_;
  const Napi::CallbackInfo& info_;
  std::vector<std::shared_ptr<cuda::DeviceTensor>> held_;
  std::shared_ptr<cuda::DeviceSequences> sequences_;
};

/// A tensor where it is wanted.
class Wanted {
 public:
  Wanted(bool wanted, cuda::DeviceType type, std::vector<int64_t> shape, const cuda::Stream& stream) {
    if (wanted) tensor_ = cuda::DeviceTensor(type, std::move(shape), stream);
  }
  const cuda::DeviceTensor* get() const { return tensor_.released() ? nullptr : &tensor_; }

 private:
  cuda::DeviceTensor tensor_;
};

/// Unpadded windows have to lie within their sequences.
inline void check_windows(const Arguments& arguments, const cuda::DeviceSequences& inputs, const cuda::DeviceSequences& outputs,
                          int64_t kernel, int64_t stride) {
  bool fits = inputs.offsets().size() == outputs.offsets().size();
  for (size_t i = 1; fits && i < inputs.offsets().size(); ++i) {
    const int64_t frames = inputs.offsets()[i] - inputs.offsets()[i - 1], windows = outputs.offsets()[i] - outputs.offsets()[i - 1];
    fits = windows == 0 || (windows - 1) * stride + kernel <= frames;
  }
  if (!fits) arguments.fail("the windows reach beyond the sequences of x");
}

/// Every sequence that has queries needs as many keys with `causal`, otherwise one.
inline void check_keys(const Arguments& arguments, const cuda::DeviceSequences& queries, const cuda::DeviceSequences& keys, bool causal) {
  if (queries.count() != keys.count()) {
    arguments.fail("there are queries of " + std::to_string(queries.count()) + " sequences but keys of " + std::to_string(keys.count()));
  }
  for (size_t i = 1; i < queries.offsets().size(); ++i) {
    const int32_t of_queries = queries.offsets()[i] - queries.offsets()[i - 1], of_keys = keys.offsets()[i] - keys.offsets()[i - 1];
    if (of_queries > 0 && of_keys < (causal ? of_queries : 1)) {
      arguments.fail("sequence " + std::to_string(i - 1) + " has " + std::to_string(of_queries) + " queries but only " + std::to_string(of_keys) +
                     " keys");
    }
  }
}

/// Values of each of `heads` heads of a row.
inline int64_t head_dimension(const Arguments& arguments, const cuda::DeviceTensor& x, int64_t heads) {
  if (x.columns() % heads != 0) {
    arguments.fail("x must hold " + std::to_string(heads) + " heads of equal size but has shape " + shape_text(x.shape()));
  }
  return x.columns() / heads;
}

}  // namespace usmlite::binding
