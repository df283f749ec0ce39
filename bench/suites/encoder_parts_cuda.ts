/**
 * Suite `encoder-parts-cuda`: where the time of an encoder goes on a GPU. Each operation of a FastConformer block with the sizes of
 * Parakeet 0.6B, and the subsampling before the blocks, alone: many launches of it recorded as one graph, as a pass would run them. Rows
 * name how often an operation comes in a pass of 24 blocks; sums of the products are at the end of each case, without what a pass does in
 * another way.
 */
import { deviceLinear } from "../../lib/device/device_linear.js";
import { DeviceSequences } from "../../lib/device/device_sequences.js";
import { synchronizeGpu } from "../../lib/device/device_stream.js";
import { DeviceTensor } from "../../lib/device/device_tensor.js";
import { DeviceWeight, type DeviceWeightOptions } from "../../lib/device/device_weight.js";
import { deviceAttention } from "../../lib/device/attention.js";
import { deviceDepthwiseConvolution, deviceGlu, deviceLayerNorm, deviceLayerNormTwice } from "../../lib/device/encoder_operations.js";
import { gpuInformation, hasGpu } from "../../lib/device/gpu.js";
import { placeSequences } from "../../lib/device/placement.js";
import { Recording } from "../../lib/device/recording.js";
import { DepthwiseStridingSubsampling } from "../../lib/nn/depthwise_striding_subsampling.js";
import { FreshWeights } from "../../lib/nn/fresh_weights.js";
import { WeightScope } from "../../lib/nn/weight_source.js";
import { packWeight } from "../../lib/quant/packed_weight.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { measureInTurn, timed } from "../measure.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

interface Sizes {
  readonly hidden: number;
  readonly heads: number;
  readonly blocks: number;
  readonly kernel: number;
  readonly melBins: number;
  readonly channels: number;
}

const parakeet: Sizes = { hidden: 1024, heads: 8, blocks: 24, kernel: 9, melBins: 128, channels: 256 };
const tiny: Sizes = { hidden: 64, heads: 2, blocks: 1, kernel: 3, melBins: 16, channels: 8 };
const framesPerHidden = 8;

/** How products multiply, and their weights. */
const forms: readonly (readonly [name: string, spec: string, options: DeviceWeightOptions])[] = [
  ["int4+2:4", "int4+2:4", {}],
  ["int4+2:4 in int8", "int4+2:4", { arithmetic: "int8" }],
  ["bfloat16", "float32", {}],
];

/** An operation, and how often a pass has it. */
interface Part {
  readonly name: string;
  readonly spec: string;
  readonly times: number;
  readonly run: () => unknown;
  /** Another way to do what a pass does: beside the one that it takes, and in no sum. */
  readonly isOther?: boolean;
}

const fresh = new FreshWeights(1);
const random = (rows: number, columns: number): DeviceTensor => DeviceTensor.from(fresh.tensor("", [rows, columns], "glorot"));
const vector = (size: number): DeviceTensor => DeviceTensor.from(fresh.tensor("", [size], "ones"), "float32");

/** @param lengths hidden frames of each sequence */
function partsOf(sizes: Sizes, lengths: readonly number[]): Part[] {
  const { hidden, heads, blocks, kernel, melBins, channels } = sizes;
  const [frames, longest] = [lengths.reduce((sum, length) => sum + length, 0), Math.max(...lengths)];
  const sequences = new DeviceSequences(new SequenceOffsets(lengths));
  const [x, wide, pairs, positions] = [
    random(frames, hidden),
    random(frames, 4 * hidden),
    random(frames, 2 * hidden),
    random(2 * longest - 1, hidden),
  ];
  const [scale, queryBias] = [vector(hidden), random(1, hidden).reshape([hidden])];
  const taps = DeviceTensor.from(fresh.tensor("", [hidden, kernel], "glorot"), "float32");
  const relative = { positions, contentBias: queryBias, positionBias: queryBias };
  const products = forms.flatMap(([spec, format, options]): Part[] => {
    const weight = (rows: number, columns: number): DeviceWeight =>
      DeviceWeight.from(packWeight(fresh.tensor("", [rows, columns], "glorot"), format), options);
    const [square, up, down, gated, joined] = [
      weight(hidden, hidden),
      weight(4 * hidden, hidden),
      weight(hidden, 4 * hidden),
      weight(2 * hidden, hidden),
      weight(3 * hidden, hidden),
    ];
    const allPositions = square.repeat(blocks);
    return [
      { name: "feed-forward, in", spec, times: 2 * blocks, run: () => deviceLinear(x, up, { activation: "silu" }) },
      { name: "feed-forward, out", spec, times: 2 * blocks, run: () => deviceLinear(wide, down, { residual: x, scale: 0.5 }) },
      { name: "query, key and value, joined", spec, times: blocks, run: () => deviceLinear(x, joined) },
      {
        name: "query, key and value, one by one",
        spec,
        times: blocks,
        run: () => [1, 2, 3].map(() => deviceLinear(x, square)),
        isOther: true,
      },
      { name: "attention out, pointwise out", spec, times: 2 * blocks, run: () => deviceLinear(x, square, { residual: x }) },
      { name: "positions of all blocks", spec, times: 1, run: () => deviceLinear(positions, allPositions) },
      { name: "positions, block by block", spec, times: blocks, run: () => deviceLinear(positions, square), isOther: true },
      { name: "pointwise, in", spec, times: blocks, run: () => deviceLinear(x, gated) },
    ];
  });
  const subsampling = new DepthwiseStridingSubsampling(new WeightScope(fresh), { melBins, hidden, channels, factor: framesPerHidden });
  const featureOffsets = new SequenceOffsets(lengths.map((length) => framesPerHidden * length));
  placeSequences(featureOffsets, new DeviceSequences(featureOffsets));
  const features = random(featureOffsets.frames, melBins);
  return [
    ...products,
    { name: "layer normalization", spec: "", times: 3 * blocks, run: () => deviceLayerNorm(x, scale, { bias: scale, epsilon: 1e-5 }) },
    {
      name: "layer normalization, two at once",
      spec: "",
      times: blocks,
      run: () => deviceLayerNormTwice(x, scale, { bias: scale, next: { weight: scale, bias: scale }, epsilon: 1e-5 }),
    },
    { name: "attention", spec: "", times: blocks, run: () => deviceAttention(x, x, x, sequences, { heads, relative }) },
    {
      name: "attention, keys undivided",
      spec: "",
      times: blocks,
      run: () => deviceAttention(x, x, x, sequences, { heads, relative, batchInvariant: true }),
      isOther: true,
    },
    {
      name: "gated linear unit and depthwise convolution",
      spec: "",
      times: blocks,
      run: () => deviceDepthwiseConvolution(pairs, taps, sequences, { bias: scale, activation: "silu", gated: true }),
    },
    {
      name: "gated linear unit, then depthwise convolution",
      spec: "",
      times: blocks,
      run: () => deviceDepthwiseConvolution(deviceGlu(pairs), taps, sequences, { bias: scale, activation: "silu" }),
      isOther: true,
    },
    { name: "subsampling", spec: "", times: 1, run: () => subsampling.forward(features, featureOffsets, {}) },
  ];
}

async function measure(context: BenchmarkContext, sizes: Sizes, lengths: readonly number[], launches: number): Promise<void> {
  const what = `${lengths.length} x ${Math.min(...lengths)}..${Math.max(...lengths)} hidden frames`;
  const sums = new Map<string, number>();
  for (const { name, spec, times, run, isOther } of partsOf(sizes, lengths)) {
    tidy(() => void run()); // what is placed on the GPU for good is there then
    using recording = new Recording(() => {
      for (let launch = 0; launch < launches; launch++) tidy(() => void run());
    });
    const replay = (repetitions: number): number[] =>
      timed(() => (recording.run(), synchronizeGpu()), repetitions).map((ms) => ms / launches);
    const [timing] = await measureInTurn([{ impl: "usm-lite", spec, run: replay }], {
      rounds: 3,
      millisecondsPerTurn: 5,
      millisecondsBetween: 0,
    });
    if (!timing) continue;
    context.record({
      suite: "encoder-parts-cuda",
      case: `${times} x ${name}, ${what}`,
      impl: "usm-lite",
      spec,
      device: "cuda",
      threads: 1,
      ...timing,
    });
    if (!isOther) sums.set(spec, (sums.get(spec) ?? 0) + times * timing.ms);
  }
  const rest = sums.get("") ?? 0;
  for (const [spec, ms] of sums)
    context.log(
      `${what}, a pass: ${spec || "all but products"} ${ms.toFixed(2)} ms${spec ? `, with the rest ${(ms + rest).toFixed(2)} ms` : ""}`,
    );
}

export const encoderPartsCuda: BenchmarkSuite = {
  name: "encoder-parts-cuda",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("encoder-parts-cuda skipped: there is no GPU");
    if (gpuInformation().emulated) return measure(context, tiny, [5], 2);
    // 20 s, and 32 recordings of 10 to 30 s.
    for (const lengths of [[250], Array.from({ length: 32 }, (_, i) => 125 + Math.round((250 * i) / 31))])
      await measure(context, parakeet, lengths, lengths.length === 1 ? 40 : 4);
  },
};
