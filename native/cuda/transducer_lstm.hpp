// A step of the long short-term memory (Hochreiter, Schmidhuber 1997) of a transducer's prediction network, in greedy decoding: products and gates
// of a layer in one launch.
#pragma once
#include "cuda/device_matrix.hpp"

namespace usmlite::cuda {

/// Rows of a layer's weights: those of four hidden units, each of four gates. A fragment is 16 of their columns.
inline constexpr int kLstmUnits = 4, kLstmRows = 4 * kLstmUnits, kLstmColumns = 16, kLstmFragment = kLstmRows * kLstmColumns;

/// Where token says that something was just said, the hidden state and the cell of an utterance become
///   c = sigmoid(f) c + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c)   with i, f, g, o = W (x, h before) + b;
/// elsewhere they stay. The same bits for an utterance whatever the others are.
struct TransducerLstmStep {
  /// float16 (hidden / 4 * 2 hidden / 16, 256), of W (4 hidden, 2 hidden): value 8 lane + 2 i + n of fragment (u, c) is that of gate r / 4 of
  /// unit 4 u + r % 4 and column 16 c + 4 (lane % 4) + 2 (i / 2) + n, with r = lane / 4 + 8 (i % 2): what tensor cores take, lane after lane.
  const DeviceMatrix* weights;
  const DeviceMatrix* bias;    // float32 (hidden / 4, 16), b in the order of r
  const DeviceMatrix* x;       // float16 (utterances, hidden), or the table (vocabulary, hidden) of what tokens are
  bool looks_up;               // in the table
  const DeviceMatrix* state;   // of the utterances (transducer_greedy.hpp)
  const DeviceMatrix* before;  // float16 (utterances, hidden)
  const DeviceMatrix* after;   // like before, other memory
  const DeviceMatrix* cell;    // float32 (utterances, hidden), in place
};

void transducer_lstm(const TransducerLstmStep& step, const Stream& stream);

}  // namespace usmlite::cuda
