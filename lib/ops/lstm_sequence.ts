/** A long short-term memory layer over whole sequences. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceLstmSequence, deviceLstmSequenceBackward } from "../device/transducer_training.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { accumulateAll, accumulateDeviceProduct } from "./gradients.js";
import { isRecording, recordStep } from "./tape.js";

interface LstmSequenceBindings {
  lstmSequence(
    inputs: TensorHandle,
    recurrent: TensorHandle,
    offsets: TensorHandle,
  ): [hidden: TensorHandle, cells: TensorHandle, gates: TensorHandle];
  lstmSequenceBackward(
    gates: TensorHandle,
    recurrent: TensorHandle,
    offsets: TensorHandle,
    hidden: TensorHandle,
    cells: TensorHandle,
    gradient: TensorHandle,
  ): TensorHandle[];
}

const native = addon as LstmSequenceBindings;

/**
 * Hidden states of a layer (Hochreiter, Schmidhuber 1997), each sequence from a state of zeros. Sequences advance together. On the GPU hidden
 * states are bfloat16, and cells float32.
 * @param inputs (rows, 4 * hidden): what inputs and biases give to the gates i, f, g, o, in PyTorch's order
 * @param recurrent (4 * hidden, hidden), multiplied by the state before
 * @returns (rows, hidden)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * const hidden = lstmSequence(linear(x, inputWeight, { bias }), recurrentWeight, offsets);
 */
export function lstmSequence(inputs: Tensor, recurrent: Tensor, offsets: SequenceOffsets): Tensor {
  if (inputs instanceof DeviceTensor) return lstmSequenceOnGpu(inputs, onGpu(recurrent, "recurrent"), offsets);
  const handles = native.lstmSequence(inputs.handle, recurrent.handle, offsets.tensor.handle);
  const [hidden, cells, gates] = handles.map((handle) => new Tensor(handle)) as [Tensor, Tensor, Tensor];
  return recordStep(hidden, [inputs, recurrent], (gradient, tape) => {
    const gradients = native.lstmSequenceBackward(
      gates.handle,
      recurrent.handle,
      offsets.tensor.handle,
      hidden.handle,
      cells.handle,
      gradient.handle,
    );
    accumulateAll(tape, [inputs, recurrent], gradients);
  });
}

/** @param recurrent float32, rounded to bfloat16 for the products, or bfloat16 */
function lstmSequenceOnGpu(inputs: DeviceTensor, recurrent: DeviceTensor, offsets: SequenceOffsets): Tensor {
  const narrow = recurrent.type === "bfloat16" ? recurrent : recurrent.cast("bfloat16");
  const states = deviceLstmSequence(inputs, narrow, offsets);
  if (!isRecording([inputs, recurrent])) {
    for (const one of [states.previous, states.cells, states.gates]) one.dispose();
    if (narrow !== recurrent) narrow.dispose();
  }
  return recordStep(states.hidden, [inputs, recurrent], (gradient, tape) => {
    const sums = deviceLstmSequenceBackward(states, narrow, offsets, onGpu(gradient, "gradient"));
    accumulateDeviceProduct(tape, "float32", recurrent, { matrix: sums, transposed: true }, { matrix: states.previous });
    tape.accumulate(inputs, sums);
  });
}
