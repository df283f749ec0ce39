/**
 * Suite `training-cuda`: a training step (forward, backward, AdamW) of a Conformer with a CTC loss on a GPU, its weights int4+2:4 by fake
 * quantization, beside the same in PyTorch: bfloat16 by autocast, and each block by torch.compile. Batches are of 10 to 20 s, which PyTorch
 * pads to the longest. `USMLITE_BENCH_SECONDS` bounds the time.
 */
import { DeviceTensor } from "../../lib/device/device_tensor.js";
import { synchronizeGpu } from "../../lib/device/device_stream.js";
import { gpuInformation, gpuMemoryStatistics, hasGpu, resetPeakGpuMemory } from "../../lib/device/gpu.js";
import { parseLasrConfig } from "../../lib/models/lasr/lasr_config.js";
import { LasrForCtc } from "../../lib/models/lasr/lasr_for_ctc.js";
import { DeviceWeightSource } from "../../lib/nn/device_weight_source.js";
import { FreshWeights } from "../../lib/nn/fresh_weights.js";
import type { WeightSource } from "../../lib/nn/weight_source.js";
import { RandomStream } from "../../lib/ops/random_stream.js";
import { Tape } from "../../lib/ops/tape.js";
import { fakeQuantize } from "../../lib/quant/fake_quantize.js";
import { magnitudeMask } from "../../lib/sparse/mask.js";
import { keep, tidy } from "../../lib/tensor/scope.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { AdamW } from "../../lib/train/optimizer.js";
import type { TrainingContext } from "../../lib/train/trainable_model.js";
import { measureInTurn, timed, type Contestant, type Timing } from "../measure.js";
import { PytorchPeer } from "../peers/pytorch.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const vocabulary = 1024;
const large = { hidden_size: 512, intermediate_size: 2048, num_hidden_layers: 20, num_attention_heads: 8, layerdrop: 0 };
const tiny = { hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, subsampling_conv_channels: 32, num_mel_bins: 16, layerdrop: 0 };

/** Weights in no time: a strip of random ones, again and again. */
class RepeatedWeights implements WeightSource {
  private readonly strip: Float32Array;
  private readonly fresh = new FreshWeights(1);

  constructor() {
    const random = new RandomStream(1);
    this.strip = Float32Array.from({ length: 65_521 }, () => random.uniform() * 2 - 1);
  }

  tensor(name: string, shape: readonly number[], initialisation: Parameters<FreshWeights["tensor"]>[2]): Tensor {
    if (shape.length < 2) return this.fresh.tensor(name, shape, initialisation);
    const size = shape.reduce((product, extent) => product * extent, 1);
    const bound = Math.sqrt((6 * (shape[0] as number)) / (size + (shape[0] as number) ** 2)); // as Glorot
    const values = new Float32Array(size);
    for (let begin = 0; begin < size; begin += this.strip.length) values.set(this.strip.subarray(0, size - begin), begin);
    return keep(Tensor.from(values.map((value) => value * bound), shape));
  }

  matrix(name: string, shape: readonly number[], initialisation: Parameters<FreshWeights["tensor"]>[2]): Tensor {
    return this.tensor(name, shape, initialisation);
  }

  has(): boolean {
    return false;
  }
}

/** A network with its optimizer, and one batch. */
class Training {
  readonly parameters: number;
  private readonly network: LasrForCtc;
  private readonly optimizer: AdamW;
  private readonly masks: ReadonlyMap<string, Tensor>;
  private readonly features: DeviceTensor;
  private readonly offsets: SequenceOffsets;
  private readonly random = new RandomStream(1);
  private steps = 0;

  constructor(
    config: ReturnType<typeof parseLasrConfig>,
    lengths: readonly number[],
    private readonly targets: readonly (readonly number[])[],
  ) {
    this.network = new LasrForCtc(config, new DeviceWeightSource(new RepeatedWeights()));
    const parameters = this.network.parameters();
    for (const parameter of parameters.values()) parameter.requiresGrad = true;
    this.parameters = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
    this.optimizer = new AdamW(parameters);
    this.masks = new Map(this.network.blockWeights().map((name) => [name, keep(magnitudeMask(parameters.get(name) as Tensor, 2, 4))]));
    this.offsets = new SequenceOffsets(lengths);
    const bins = config.encoder_config.num_mel_bins;
    using values = Tensor.from(Float32Array.from({ length: this.offsets.frames * bins }, (_, i) => ((i * 2654435761) % 1024) / 512 - 1), [this.offsets.frames, bins]);
    this.features = DeviceTensor.from(values);
  }

  step(): void {
    tidy(() => {
      const context: TrainingContext = {
        training: true,
        random: this.random,
        step: this.steps++,
        transformWeight: (name, weight) => {
          const mask = this.masks.get(name);
          return mask ? fakeQuantize(weight, "int4+2:4", { mask, stopScaleGradient: true }) : weight;
        },
      };
      using tape = new Tape();
      const { loss } = tape.record(() => this.network.loss({ features: this.features, offsets: this.offsets, targets: this.targets, audioSeconds: 1 }, context));
      tape.backward(loss);
      this.optimizer.step((parameter) => tape.gradientOf(parameter), 1e-4, { maximumNorm: 1 });
    });
    synchronizeGpu();
  }
}

export const trainingCuda: BenchmarkSuite = {
  name: "training-cuda",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("training-cuda skipped: there is no GPU");
    const { emulated } = gpuInformation();
    const end = performance.now() + 1000 * Number(process.env["USMLITE_BENCH_SECONDS"] ?? Infinity);
    const seconds = emulated ? [1] : Array.from({ length: 32 }, (_, i) => 10 + Math.round((10 * i) / 31));
    const lengths = seconds.map((duration) => duration * 100);
    const labels = seconds.map((duration, i) => Array.from({ length: duration * 4 }, (_, j) => 1 + ((j * 7 + i) % (vocabulary - 1))));
    const config = parseLasrConfig({ model_type: "lasr_ctc", vocab_size: vocabulary, encoder_config: emulated ? tiny : large }, "the benchmark");
    const training = new Training(config, lengths, labels);
    const audio = seconds.reduce((sum, duration) => sum + duration, 0);
    const what = `Conformer of ${Math.round(training.parameters / 1e5) / 10}M, ${seconds.length} x ${Math.min(...seconds)}..${Math.max(...seconds)} s`;
    let peakBytes = 0;
    const ours: Contestant = {
      impl: "usm-lite",
      spec: "int4+2:4",
      run: (repetitions) => {
        resetPeakGpuMemory();
        const times = timed(() => training.step(), repetitions);
        peakBytes = gpuMemoryStatistics().peakBytes;
        return times;
      },
    };
    const peer = emulated ? undefined : await PytorchPeer.start("training_cuda.py", [], context.log);
    const peaks = new Map<string, number>();
    const theirs = (mode: string): Contestant => {
      const impl = `PyTorch ${(peer?.introduction as { torch: string }).torch} ${mode}`;
      return {
        impl,
        spec: "int4+2:4",
        run: async (repetitions) => {
          const line = JSON.stringify({ config: config.encoder_config, vocabulary, lengths, labels, mode, repetitions });
          const answer = (await peer?.ask(line)) as { times: number[]; peakBytes: number } | { error: string };
          if ("error" in answer) throw new Error(answer.error);
          peaks.set(impl, answer.peakBytes);
          return answer.times;
        },
      };
    };
    const rows = async (contestants: readonly Contestant[]): Promise<void> => {
      let timings: Timing[];
      try {
        timings = await measureInTurn(contestants, { rounds: 3, millisecondsPerTurn: 1000, millisecondsBetween: 1 });
      } catch (error) {
        context.log(`${what}: ${(error as Error).message}`);
        return contestants.length > 1 ? rows(contestants.slice(0, 1)) : undefined;
      }
      timings.forEach((timing, index) => {
        const { impl, spec } = contestants[index] as Contestant;
        const peak = impl === "usm-lite" ? peakBytes : peaks.get(impl);
        context.record({
          suite: "training-cuda", case: what, impl, spec, device: "cuda", threads: 1, ...timing,
          rtfx: audio / (timing.ms / 1000), ...(peak !== undefined && { peakBytes: peak }),
        });
      });
    };
    try {
      await rows([ours, ...(peer ? [theirs("eager")] : [])]);
      if (peer && performance.now() < end) await rows([theirs("compiled")]);
    } finally {
      peer?.stop();
    }
  },
};
