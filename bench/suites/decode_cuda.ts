/**
 * Suite `decode-cuda`: what transcription does on a GPU around the encoder, in the sizes of Parakeet 0.6B, beside the same on the CPU of
 * this machine: features, greedy decoding of a CTC head, greedy decoding of a transducer with random weights; and the tokens of a
 * sequence-to-sequence decoder.
 */
import type { FrontEnd } from "../../lib/audio/front_end.js";
import { kaldiFeaturesFrom } from "../../lib/audio/kaldi_features.js";
import { parakeetFeaturesFrom } from "../../lib/audio/parakeet_features.js";
import { rawSamplesFrom } from "../../lib/audio/raw_samples.js";
import { whisperFeaturesFrom } from "../../lib/audio/whisper_features.js";
import { transducerGreedy } from "../../lib/decode/transducer_greedy.js";
import type { TransducerScorer } from "../../lib/decode/transducer.js";
import { deviceCtcBestPath } from "../../lib/device/ctc_best_path.js";
import { DeviceTensor } from "../../lib/device/device_tensor.js";
import { synchronizeGpu } from "../../lib/device/device_stream.js";
import { deviceLogSoftmax } from "../../lib/device/encoder_operations.js";
import { gpuInformation, hasGpu } from "../../lib/device/gpu.js";
import { TransducerDecoder } from "../../lib/device/transducer_decoder.js";
import { threadCount } from "../../lib/native/runtime.js";
import { FreshWeights } from "../../lib/nn/fresh_weights.js";
import { Linear } from "../../lib/nn/linear.js";
import { PredictionNetwork } from "../../lib/nn/prediction_network.js";
import { WeightScope } from "../../lib/nn/weight_source.js";
import { keep, tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { measureInTurn, timed, type Contestant } from "../measure.js";
import type { BenchmarkContext, BenchmarkSuite } from "../record.js";
import { sequenceWriter } from "./sequence_decoder.js";

const seconds = 20;
const framesPerSecond = 12.5;
const noise = (count: number, step = 2654435761): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => ((i * step) % 1024) / 512 - 1);

interface Work {
  readonly device: "cpu" | "cuda";
  readonly impl: string;
  readonly run: () => void;
}

async function measure(context: BenchmarkContext, what: string, audio: number, works: readonly Work[], spec = "float32"): Promise<void> {
  const contestants = works.map(({ impl, run }): Contestant => ({ impl, spec, run: (repetitions) => timed(() => tidy(run), repetitions) }));
  const timings = await measureInTurn(contestants, { rounds: 3, millisecondsPerTurn: 30, millisecondsBetween: 1 });
  timings.forEach((timing, index) => {
    const { device, impl } = works[index] as Work;
    context.record({
      suite: "decode-cuda",
      case: what,
      impl,
      spec,
      device,
      threads: device === "cpu" ? threadCount() : 1,
      ...timing,
      rtfx: audio / (timing.ms / 1000),
    });
  });
}

/** By case. */
const frontEnds: Readonly<Record<string, FrontEnd>> = {
  "log-mel": parakeetFeaturesFrom({ feature_size: 128 }, "log-mel"),
  "log-mel of w2v-BERT 2.0": kaldiFeaturesFrom({}, "log-mel"),
  "log-mel of Whisper": whisperFeaturesFrom({ feature_size: 128 }, "log-mel"),
  "normalised samples": rawSamplesFrom({}, "samples"),
};

async function measureFeatures(context: BenchmarkContext, batch: number): Promise<void> {
  const utterances = Array.from({ length: batch }, () => noise(seconds * 16000));
  for (const [what, frontEnd] of Object.entries(frontEnds)) {
    await measure(context, `${what}, ${batch} x ${seconds} s`, batch * seconds, [
      { device: "cuda", impl: "usm-lite", run: () => (frontEnd.featuresOnGpu(utterances), synchronizeGpu()) },
      { device: "cpu", impl: "usm-lite on the CPU", run: () => utterances.forEach((samples) => frontEnd.features(samples)) },
    ]);
  }
}

async function measureCtc(context: BenchmarkContext, batch: number): Promise<void> {
  const [frames, vocabulary] = [batch * seconds * framesPerSecond, 1025];
  const logits = DeviceTensor.from(Tensor.from(noise(frames * vocabulary), [frames, vocabulary]));
  const largest = (values: Float32Array): void => {
    for (let row = 0; row < values.length; row += vocabulary) {
      let best = row;
      for (let i = row; i < row + vocabulary; i++) if ((values[i] as number) > (values[best] as number)) best = i;
    }
  };
  await measure(context, `greedy CTC, ${batch} x ${seconds} s`, batch * seconds, [
    { device: "cuda", impl: "usm-lite", run: () => void deviceCtcBestPath(logits, 1024).toArray() },
    { device: "cuda", impl: "all probabilities to the CPU", run: () => largest(deviceLogSoftmax(logits).toArray()) },
  ]);
  logits.dispose();
}

/** A token-and-duration transducer with the sizes of parakeet-tdt-0.6b. */
async function measureTransducer(context: BenchmarkContext, batch: number, tiny: boolean): Promise<void> {
  const [hidden, vocabulary] = tiny ? [16, 24] : [640, 8193];
  const rules = { blankId: vocabulary - 1, durations: [0, 1, 2, 3, 4], maximumSymbolsPerFrame: 10 };
  const scope = new WeightScope(new FreshWeights(1));
  const prediction = new PredictionNetwork(scope.scope("decoder"), { vocabulary, hidden, layers: 2 });
  const head = new Linear(scope, "joint.head", [vocabulary + rules.durations.length, hidden], { bias: true });
  using decoder = new TransducerDecoder({ ...prediction.floatWeights(), head: { weight: head.weight as Tensor, bias: head.bias } }, rules);
  const frames = tiny ? 2 : seconds * framesPerSecond;
  const inputs = Array.from({ length: batch }, (_, index) => ({ values: noise(frames * hidden, 2654435761 + 2 * index), frames }));
  const network: TransducerScorer = {
    ...rules,
    vocabularySize: vocabulary,
    predict: (tokens, before) => prediction.predict(tokens, before),
    scores: (rows, predictions) =>
      tidy(() => {
        const joint = rows.flatMap((frame, row) =>
          [...frame].map((value, i) => Math.max(0, value + ((predictions[row] as { output: Float32Array }).output[i] as number))),
        );
        return head.forward(Tensor.from(joint, [rows.length, hidden]), {}).toArray();
      }),
  };
  const left = inputs.map(({ values }) => ({
    values: new Float32Array(0),
    frames,
    onGpu: keep(DeviceTensor.from(Tensor.from(values, [frames, hidden]), "bfloat16")), // as the encoder leaves them
  }));
  const audio = (batch * frames) / framesPerSecond;
  const what = `greedy transducer, ${batch} x ${frames / framesPerSecond} s`;
  await measure(context, what, audio, [
    { device: "cuda", impl: "usm-lite", run: () => void transducerGreedy({ ...network, decoderOnGpu: decoder }, left) },
  ]);
  for (const { onGpu } of left) onGpu.dispose();
  if (batch > 1) return;
  const [ms = 0] = timed(() => void transducerGreedy(network, inputs), 1); // seconds
  const rtfx = audio / (ms / 1000);
  context.record({
    suite: "decode-cuda",
    case: what,
    impl: "usm-lite on the CPU",
    spec: "float32",
    device: "cpu",
    threads: threadCount(),
    ms,
    ms_min: ms,
    ms_max: ms,
    runs: 1,
    rtfx,
  });
}

async function measureSequence(context: BenchmarkContext, recordings: number, tiny: boolean): Promise<void> {
  const [frames, tokens] = tiny ? [3, 2] : [seconds * framesPerSecond, 32];
  const work = { frames, tokens, recordings, spec: "int4+2:4", tiny };
  const [onGpu, onCpu] = [sequenceWriter("cuda", work), sequenceWriter("cpu", work)];
  const works = [
    { device: "cuda", impl: "usm-lite", run: () => onGpu(recordings) },
    { device: "cpu", impl: "usm-lite on the CPU", run: () => onCpu(recordings) },
  ] as const;
  const what = `${tokens} tokens of a decoder about each of ${recordings} x ${frames} frames`;
  await measure(context, what, (recordings * frames) / framesPerSecond, works, work.spec);
}

export const decodeCuda: BenchmarkSuite = {
  name: "decode-cuda",
  async run(context: BenchmarkContext): Promise<void> {
    if (!hasGpu()) return context.log("decode-cuda skipped: there is no GPU");
    const tiny = gpuInformation().emulated;
    for (const batch of tiny ? [1] : [1, 8]) {
      if (!tiny) await measureFeatures(context, batch);
      if (!tiny) await measureCtc(context, batch);
      await measureTransducer(context, batch, tiny);
    }
    for (const recordings of tiny ? [2] : [1, 8]) await measureSequence(context, recordings, tiny);
  },
};
