/**
 * Suite `encoder-cuda`: the encoders of published models on a GPU, from log-mel frames to hidden frames there, with random weights in
 * every form, beside the same encoder in PyTorch. Batches are of 10 to 30 s, which PyTorch pads to the longest.
 * `USMLITE_BENCH_SECONDS` bounds the time; rows that need torch.compile come last.
 */
import { batchInvariantly } from "../../lib/device/batch_invariance.js";
import { DeviceTensor } from "../../lib/device/device_tensor.js";
import { DeviceWeight, type Arithmetic } from "../../lib/device/device_weight.js";
import { gpuInformation, gpuMemoryStatistics, hasGpu } from "../../lib/device/gpu.js";
import { synchronizeGpu } from "../../lib/device/device_stream.js";
import { parakeetEncoderSchema, type ParakeetEncoderConfig } from "../../lib/models/parakeet/parakeet_config.js";
import { ParakeetEncoder } from "../../lib/models/parakeet/parakeet_encoder.js";
import { FreshWeights } from "../../lib/nn/fresh_weights.js";
import { WeightRegistry } from "../../lib/nn/weight_registry.js";
import { WeightScope, type MatrixWeight, type WeightSource } from "../../lib/nn/weight_source.js";
import { packWeight } from "../../lib/quant/packed_weight.js";
import { weightMatrixShape } from "../../lib/quant/weight_matrix.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { measureInTurn, timed, type Contestant, type Timing } from "../measure.js";
import { PytorchPeer } from "../peers/pytorch.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

interface Model {
  readonly name: string;
  readonly config: ParakeetEncoderConfig;
}

const encoder = (name: string, json: object): Model => ({ name, config: parakeetEncoderSchema.parse(json) });

/** nvidia/parakeet-tdt-0.6b and Cohere's 2B model, by their configuration. */
const published = [
  encoder("parakeet-0.6b", { num_mel_bins: 128, attention_bias: false, convolution_bias: false, scale_input: false }),
  encoder("cohere-2b", { hidden_size: 1280, num_hidden_layers: 48, intermediate_size: 5120, num_mel_bins: 128, scale_input: false }),
];
const tiny = [
  encoder("tiny", {
    hidden_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 128,
    num_mel_bins: 16,
    subsampling_conv_channels: 8,
  }),
];
/** Spec and arithmetic. */
const forms = [
  ["int4+2:4", "bfloat16"],
  ["float32", "bfloat16"],
  ["int4+2:4", "int8"],
  ["int4", "bfloat16"],
  ["int8", "int8"],
  ["int8", "bfloat16"],
  ["2:4", "bfloat16"],
] as const;
const uncompiled = ["eager", "graph"];
const compiled = ["compiled", "compiled-graph"];

/** Seconds of `batch` sequences from 10 to 30 s; one alone has 20. */
const durations = (batch: number): number[] =>
  Array.from({ length: batch }, (_, i) => (batch === 1 ? 20 : 10 + Math.round((20 * i) / (batch - 1))));
const name = (seconds: readonly number[]): string =>
  seconds.length === 1 ? `1 x ${seconds[0]} s` : `${seconds.length} x ${Math.min(...seconds)}..${Math.max(...seconds)} s`;

/** Random weights made on the GPU: a strip of each matrix comes from here and is repeated there. */
class RepeatedWeights implements WeightSource {
  private readonly fresh = new FreshWeights(1);
  private readonly strips = new Map<string, DeviceWeight>();

  constructor(
    private readonly spec: string,
    private readonly arithmetic: Arithmetic,
  ) {}

  tensor(name: string, shape: readonly number[], initialization: Parameters<FreshWeights["tensor"]>[2]): Tensor {
    return this.fresh.tensor(name, shape, initialization);
  }

  matrix(name: string, shape: readonly number[]): MatrixWeight {
    const [rows, columns] = weightMatrixShape(shape);
    const height = rows % 256 === 0 ? 256 : 64;
    const key = `${height} ${columns}`;
    let strip = this.strips.get(key);
    if (!strip) {
      strip = tidy(() => {
        using weight = this.fresh.tensor(name, [height, columns], "glorot");
        return DeviceWeight.from(packWeight(weight, this.spec), { arithmetic: this.arithmetic });
      });
      this.strips.set(key, strip);
    }
    return strip.repeat(rows / height);
  }

  has(): boolean {
    return false;
  }

  dispose(): void {
    for (const strip of this.strips.values()) strip.dispose();
  }
}

/** An encoder with weights in one form. */
class Network implements Disposable {
  readonly weightBytes: number;
  private readonly encoder: ParakeetEncoder;
  private readonly weights: WeightRegistry;

  constructor(
    { config }: Model,
    readonly spec: string,
    readonly arithmetic: Arithmetic,
  ) {
    const before = gpuMemoryStatistics().bytesInUse;
    const source = new RepeatedWeights(spec, arithmetic);
    this.weights = new WeightRegistry(source);
    this.encoder = new ParakeetEncoder(new WeightScope(this.weights), config);
    source.dispose();
    this.run(input([1], config)); // brings the other weights to the GPU
    this.weightBytes = gpuMemoryStatistics().bytesInUse - before;
  }

  run({ features, offsets }: Input): void {
    tidy(() => void this.encoder.forward(features, offsets));
    synchronizeGpu();
  }

  [Symbol.dispose](): void {
    this.encoder.dispose();
    this.weights.dispose();
  }
}

interface Input {
  readonly features: DeviceTensor;
  readonly offsets: SequenceOffsets;
}

function input(seconds: readonly number[], { num_mel_bins: bins }: ParakeetEncoderConfig): Input {
  const offsets = new SequenceOffsets(seconds.map((duration) => duration * 100));
  using values = Tensor.from(
    Float32Array.from({ length: offsets.frames * bins }, (_, i) => ((i * 2654435761) % 1024) / 512 - 1),
    [offsets.frames, bins],
  );
  return { features: DeviceTensor.from(values), offsets };
}

export const encoderCuda: BenchmarkSuite = {
  name: "encoder-cuda",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("encoder-cuda skipped: there is no GPU");
    const { emulated } = gpuInformation();
    const end = performance.now() + 1000 * Number(process.env["USMLITE_BENCH_SECONDS"] ?? Infinity);
    const batches = emulated ? [[1]] : [1, 8, 32].map(durations);
    const models = emulated ? tiny : published;
    const peer = emulated ? undefined : await PytorchPeer.start("encoder_cuda.py", [], context.log);
    try {
      for (const model of models) {
        const networks = forms.map(([spec, arithmetic]) => new Network(model, spec, arithmetic));
        for (const seconds of batches) {
          const ours = input(seconds, model.config);
          const runs = networks.flatMap((network) => ways(network).map((batchInvariant) => ({ network, batchInvariant })));
          const contestants = runs.map(({ network, batchInvariant }) => ourContestant(network, ours, batchInvariant));
          const running = runs.map(({ network }) => network);
          await measure(context, model, seconds, [...contestants, ...(peer ? peers(peer, model, seconds, uncompiled) : [])], running, end);
          ours.features.dispose();
        }
        for (const network of networks) network[Symbol.dispose]();
      }
      for (const model of peer ? models : []) {
        for (const seconds of batches)
          await measure(context, model, seconds, peers(peer as PytorchPeer, model, seconds, compiled), [], end);
      }
    } finally {
      peer?.stop();
    }
  },
};

/** With which values of `batchInvariant` a network is timed: with the one that serves, for one of them. */
const ways = ({ spec, arithmetic }: Network): readonly boolean[] =>
  spec === "int4+2:4" && arithmetic === "bfloat16" ? [false, true] : [false];

const ourContestant = (network: Network, ours: Input, batchInvariant: boolean): Contestant => ({
  impl: "usm-lite",
  spec:
    (network.spec === "float32" ? "bfloat16" : network.arithmetic === "int8" ? `${network.spec} in int8` : network.spec) +
    (batchInvariant ? ", in any batch" : ""),
  run: (repetitions) => timed(() => batchInvariantly(batchInvariant, () => network.run(ours)), repetitions),
});

const peers = (peer: PytorchPeer, { config }: Model, seconds: readonly number[], modes: readonly string[]): Contestant[] =>
  modes.map((mode) => ({
    impl: `PyTorch ${(peer.introduction as { torch: string }).torch} ${mode}`,
    spec: "bfloat16",
    run: async (repetitions) => {
      const answer = (await peer.ask(JSON.stringify({ config, lengths: seconds.map((duration) => duration * 100), mode, repetitions }))) as
        number[] | { error: string };
      if (Array.isArray(answer)) return answer;
      throw new Error(answer.error);
    },
  }));

/** Contestants in turn, if there is time left; the first ones belong to `networks`. */
async function measure(
  context: BenchmarkContext,
  model: Model,
  seconds: readonly number[],
  contestants: readonly Contestant[],
  networks: readonly Network[],
  end: number,
): Promise<void> {
  const what = `${model.name}, ${name(seconds)}`;
  if (performance.now() > end) return context.log(`${what}: no time left for ${contestants.map(({ impl }) => impl).join(", ")}`);
  let timings: Timing[];
  try {
    timings = await measureInTurn(contestants, { rounds: 3, millisecondsPerTurn: 60, millisecondsBetween: 1 });
  } catch (error) {
    context.log(`${what}: ${(error as Error).message}`);
    // A peer that lacks memory, say, is no reason to go without the others.
    const ours = contestants.slice(0, networks.length);
    return ours.length > 0 && ours.length < contestants.length ? measure(context, model, seconds, ours, networks, end) : undefined;
  }
  const audio = seconds.reduce((sum, duration) => sum + duration, 0);
  timings.forEach((timing, index) => {
    const { impl, spec } = contestants[index] as Contestant;
    const weightBytes = networks[index]?.weightBytes;
    context.record({
      suite: "encoder-cuda",
      case: what,
      impl,
      spec,
      device: "cuda",
      threads: 1,
      ...timing,
      rtfx: audio / (timing.ms / 1000),
      ...(weightBytes !== undefined && { weightBytes }),
    });
  });
}
