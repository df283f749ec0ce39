import { assertClose } from "./gpu.js";
import test from "ava";
import { DeviceTensor, fakeQuantize, magnitudeMask, SequenceOffsets, Tape, Tensor } from "../lib/operations.js";
import { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { parseLasrConfig } from "../lib/models/lasr/lasr_config.js";
import { DeviceWeightSource } from "../lib/nn/device_weight_source.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { weightMatrix } from "../lib/quant/weight_matrix.js";
import { AdamW } from "../lib/train/optimizer.js";
import type { TrainingContext } from "../lib/train/trainable_model.js";
import { randomTensor } from "./gradient.js";

const config = parseLasrConfig(
  {
    model_type: "lasr_ctc",
    vocab_size: 11,
    encoder_config: {
      hidden_size: 32,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 64,
      conv_kernel_size: 4,
      num_mel_bins: 16,
      subsampling_conv_channels: 16,
      subsampling_conv_kernel_size: 3,
      layerdrop: 0,
    },
  },
  "test",
);
const lengths = [41, 60];
const targets = [
  [3, 5, 5],
  [1, 2, 7, 4],
];

/** Loss and gradients of one step with int4+2:4 weights, dropout included, and the weights after it. */
function step(device: "cpu" | "cuda"): {
  loss: number;
  gradients: Map<string, Float32Array>;
  running: Float32Array;
  after: Map<string, Float32Array>;
} {
  const fresh = new FreshWeights(5);
  const network = new LasrForCtc(config, device === "cpu" ? fresh : new DeviceWeightSource(fresh));
  const offsets = new SequenceOffsets(lengths);
  const values = randomTensor([offsets.frames, 16], 8);
  const features = device === "cpu" ? DeviceTensor.from(values).toTensor() : DeviceTensor.from(values);
  for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
  const quantized = new Set(network.blockWeights());
  const context: TrainingContext = {
    training: true,
    random: new RandomStream(3),
    step: 0,
    transformWeight: (name, weight) =>
      quantized.has(name) ? fakeQuantize(weight, "int4+2:4", { mask: magnitudeMask(weight, 2, 4) }) : weight,
  };
  const tape = new Tape();
  const { loss, infeasible } = tape.record(() => network.loss({ features, offsets, targets, audioSeconds: 1 }, context));
  tape.backward(loss);
  const optimizer = new AdamW(network.parameters());
  const inMatrixOrder = (tensor: Tensor): Float32Array => (tensor.shape.length > 2 ? weightMatrix(tensor) : tensor).toArray();
  const all = (of: (parameter: Tensor) => Tensor): Map<string, Float32Array> =>
    new Map([...network.parameters()].map(([name, parameter]) => [name, inMatrixOrder(of(parameter))]));
  const gradients = all((parameter) => tape.gradientOf(parameter) as Tensor);
  optimizer.step((parameter) => tape.gradientOf(parameter), 0.01, { maximumNorm: 1 });
  if (infeasible !== 0) throw new Error("no alignment fits");
  const running = ([...network.buffers().values()][0] as Tensor).toArray();
  return { loss: loss.toArray()[0] as number, gradients, running, after: all((parameter) => parameter) };
}

test("a training step of a Conformer on the GPU is that of the CPU", (t) => {
  const [expected, found] = [step("cpu"), step("cuda")];
  t.true(Math.abs(found.loss / expected.loss - 1) < 1e-2, `loss ${found.loss}, not ${expected.loss}`);
  assertClose(t, found.running, expected.running, 3e-2, "running mean");
  // bfloat16 rounds every activation and every gradient on its way: compared by direction and length.
  for (const [name, gradient] of expected.gradients) {
    const own = found.gradients.get(name) as Float32Array;
    const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
    const [length, ownLength] = [Math.sqrt(dot(gradient, gradient)), Math.sqrt(dot(own, own))];
    const cosine = dot(gradient, own) / (length * ownLength);
    t.true(cosine > 0.99 && Math.abs(ownLength / length - 1) < 0.05, `${name}: cosine ${cosine}, lengths ${ownLength} and ${length}`);
    const moved = (found.after.get(name) as Float32Array).every(Number.isFinite);
    t.true(moved, name);
  }
});
