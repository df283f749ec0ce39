/**
 * Suite `training-cuda`: a training step (forward, backward, AdamW) of a Conformer with a CTC loss on a GPU, its weights int4+2:4 by fake
 * quantization, beside the same in PyTorch: bfloat16 by autocast, and each block by torch.compile. Batches are of 10 to 20 s, which PyTorch
 * pads to the longest. `USMLITE_BENCH_SECONDS` bounds the time.
 */
import { gpuInformation, hasGpu } from "../../lib/device/gpu.js";
import { parseLasrConfig } from "../../lib/models/lasr/lasr_config.js";
import { LasrForCtc } from "../../lib/models/lasr/lasr_for_ctc.js";
import { DeviceWeightSource } from "../../lib/nn/device_weight_source.js";
import { DeviceTraining, RepeatedWeights, trainingBatch } from "../device_training.js";
import { measureInTurn, type Contestant, type Timing } from "../measure.js";
import { PytorchPeer } from "../peers/pytorch.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const vocabulary = 1024;
const large = { hidden_size: 512, intermediate_size: 2048, num_hidden_layers: 20, num_attention_heads: 8, layerdrop: 0 };
const tiny = {
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  subsampling_conv_channels: 32,
  num_mel_bins: 16,
  layerdrop: 0,
};

export const trainingCuda: BenchmarkSuite = {
  name: "training-cuda",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("training-cuda skipped: there is no GPU");
    const { emulated } = gpuInformation();
    const end = performance.now() + 1000 * Number(process.env["USMLITE_BENCH_SECONDS"] ?? Infinity);
    const { seconds, labels } = trainingBatch(emulated, vocabulary);
    const lengths = seconds.map((duration) => duration * 100);
    const config = parseLasrConfig(
      { model_type: "lasr_ctc", vocab_size: vocabulary, encoder_config: emulated ? tiny : large },
      "the benchmark",
    );
    const training = new DeviceTraining(new LasrForCtc(config, new DeviceWeightSource(new RepeatedWeights())), lengths, labels);
    const audio = seconds.reduce((sum, duration) => sum + duration, 0);
    const what = `Conformer of ${Math.round(training.parameters / 1e5) / 10}M, ${seconds.length} x ${Math.min(...seconds)}..${Math.max(...seconds)} s`;
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
        const peak = impl === "usm-lite" ? training.peakBytes : peaks.get(impl);
        context.record({
          suite: "training-cuda",
          case: what,
          impl,
          spec,
          device: "cuda",
          threads: 1,
          ...timing,
          rtfx: audio / (timing.ms / 1000),
          ...(peak !== undefined && { peakBytes: peak }),
        });
      });
    };
    try {
      await rows([training.contestant, ...(peer ? [theirs("eager")] : [])]);
      if (peer && performance.now() < end) await rows([theirs("compiled")]);
    } finally {
      peer?.stop();
    }
  },
};
