/**
 * Suite `training-parakeet`: a training step (forward, backward, AdamW) of a Parakeet CTC model of FastConformer L's size on a GPU, its weights
 * int4+2:4 by fake quantization, on the batch of `training-cuda`. There is no peer: it tells what subsampling by planes and relative positions
 * cost beside the figure of that suite.
 */
import { gpuInformation, hasGpu } from "../../lib/device/gpu.js";
import { parseParakeetCtcConfig } from "../../lib/models/parakeet/parakeet_config.js";
import { ParakeetForCtc } from "../../lib/models/parakeet/parakeet_for_ctc.js";
import { DeviceWeightSource } from "../../lib/nn/device_weight_source.js";
import { DeviceTraining, RepeatedWeights, trainingBatch } from "../device_training.js";
import { measureInTurn } from "../measure.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";

const vocabulary = 1025;
const large = { hidden_size: 512, intermediate_size: 2048, num_hidden_layers: 17, num_attention_heads: 8 };
const tiny = { hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, subsampling_conv_channels: 16, num_mel_bins: 16 };

export const trainingParakeet: BenchmarkSuite = {
  name: "training-parakeet",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("training-parakeet skipped: there is no GPU");
    const { emulated } = gpuInformation();
    const { seconds, labels } = trainingBatch(emulated, vocabulary - 1);
    const config = parseParakeetCtcConfig({ model_type: "parakeet_ctc", vocab_size: vocabulary, pad_token_id: vocabulary - 1, encoder_config: emulated ? tiny : large }, "the benchmark");
    const network = new ParakeetForCtc(config, new DeviceWeightSource(new RepeatedWeights()));
    const training = new DeviceTraining(network, seconds.map((duration) => duration * 100), labels);
    const [timing] = await measureInTurn([training.contestant], { rounds: 3, millisecondsPerTurn: 1000, millisecondsBetween: 1 });
    if (!timing) return;
    const audio = seconds.reduce((sum, duration) => sum + duration, 0);
    context.record({
      suite: "training-parakeet",
      case: `Parakeet CTC of ${Math.round(training.parameters / 1e5) / 10}M, ${seconds.length} x ${Math.min(...seconds)}..${Math.max(...seconds)} s`,
      impl: "usm-lite", spec: "int4+2:4", device: "cuda", threads: 1, ...timing, rtfx: audio / (timing.ms / 1000), peakBytes: training.peakBytes,
    });
  },
};
