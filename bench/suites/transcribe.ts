/**
 * Suite `transcribe`: the model that ships, from samples to text, packed and in float32; its network alone beside
 * transformers in PyTorch; and a wider network with random weights, to show how the ratios grow with width.
 * Every pass goes over the same utterances: one at a time ("batch 1"), all in one call, or joined to one recording.
 */
import type { LasrForCtc } from "../../lib/models/lasr/lasr_for_ctc.js";
import { defaultModelFolder } from "../../lib/models/default_model.js";
import { loadModel, type SpeechModel } from "../../lib/models/model_folder.js";
import { setThreadCount, threadCount } from "../../lib/native/runtime.js";
import { SequenceOffsets } from "../../lib/tensor/sequence_offsets.js";
import { tidy } from "../../lib/tensor/scope.js";
import { Tensor } from "../../lib/tensor/tensor.js";
import { Recognizer } from "../../lib/transcribe/recognizer.js";
import { exampleSpeech } from "../example_speech.js";
import { measureInTurn, timed, type Contestant, type Timing } from "../measure.js";
import { PytorchTranscription } from "../peers/pytorch_transcription.js";
import { randomNetwork } from "../random_network.js";
import type { BenchmarkContext, BenchmarkRecord, BenchmarkSuite } from "../record.js";
import { peakBytes, resident } from "../tensor_memory.js";

const melBins = 128;
const turns = { rounds: 5, millisecondsPerTurn: 200 };
const wide = {
  name: "512x4, 1 x 10 s",
  size: { hidden: 512, layers: 4, heads: 8, vocabulary: 512, convolutionKernel: 32 },
  seconds: 10,
  specs: ["float32", "int8", "int4", "int4+2:4"],
};

/** A contestant and, where it is known, the tensor memory it takes. */
export interface Transcription extends Contestant {
  readonly peakBytes?: number;
  readonly weightBytes?: number;
}

/** A network in memory. */
interface Loaded {
  readonly spec: string;
  readonly network: LasrForCtc;
  readonly weightBytes: number;
}

interface LoadedModel extends Loaded {
  readonly model: SpeechModel;
}

export const transcribe: BenchmarkSuite = {
  name: "transcribe",
  async run(context: BenchmarkContext): Promise<void> {
    const threadsBefore = threadCount();
    await defaultModel(context);
    await wideNetwork(context);
    setThreadCount(threadsBefore);
  },
};

async function defaultModel(context: BenchmarkContext): Promise<void> {
  const { utterances, seconds } = await exampleSpeech();
  const models = (["packed", "float32"] as const).map((weights) => loaded(weights, utterances));
  const { model, network } = models[1] as LoadedModel;
  const features = utterances.map((samples) => tidy(() => model.frontEnd.features(samples).toArray()));
  const peer = new PytorchTranscription(network, features);
  try {
    for (const threads of context.threads) {
      setThreadCount(threads);
      await peer.start(threads, context.log);
      for (const batch of [1, utterances.length]) {
        for (const decoder of ["greedy", "beam"] as const) {
          const contestants = models.map((each) => endToEnd(each, utterances, batch, decoder));
          await measure(context, threads, `default model, ${decoder}, batch ${batch}`, seconds, contestants);
        }
        const contestants = models.map((each) => networkAlone(each, features, batch));
        contestants.push(...peer.contestants(batch));
        await measure(context, threads, `default model, network, batch ${batch}`, seconds, contestants);
      }
      // The utterances as one recording, of which every frame attends to as many as fit in a window.
      for (const decoder of ["greedy", "beam"] as const) {
        const contestants = models.map((each) => endToEnd(each, [joined(utterances)], 1, decoder));
        await measure(context, threads, `default model, ${decoder}, one recording`, seconds, contestants);
      }
      const contestants = models.map((each) => networkAlone(each, [joined(features)], 1));
      await measure(context, threads, "default model, network, one recording", seconds, contestants);
      peer.stop();
    }
  } finally {
    peer.dispose();
    for (const each of models) each.network.dispose();
  }
}

async function wideNetwork(context: BenchmarkContext): Promise<void> {
  const frames = wide.seconds * 100;
  const features = Float32Array.from({ length: frames * melBins }, (_, i) => Math.sin(i * 0.37) * 3 - 6);
  const networks = wide.specs.map((spec): Loaded => {
    const { made: network, weightBytes } = resident(
      () => randomNetwork(wide.size, spec),
      (network) => forward(network, [features]),
    );
    return { spec, network, weightBytes };
  });
  for (const threads of context.threads) {
    setThreadCount(threads);
    const contestants = networks.map((network) => networkAlone(network, [features], 1));
    await measure(context, threads, wide.name, wide.seconds, contestants);
  }
  for (const { network } of networks) network.dispose();
}

function loaded(weights: "packed" | "float32", utterances: readonly Float32Array[]): LoadedModel {
  const { made: model, weightBytes } = resident(
    () => loadModel(defaultModelFolder, { weights }),
    (model) => new Recognizer(model).transcribeBatch(utterances),
  );
  const specs = [...model.compression.specs.values()].map(({ text }) => text);
  const spec = weights === "float32" ? weights : [...new Set(specs)].join(", ");
  return { spec, model, network: model.network as LasrForCtc, weightBytes };
}

/** Samples to text. @param batch utterances of one call: one, or all */
function endToEnd(
  { spec, model, weightBytes }: LoadedModel,
  utterances: readonly Float32Array[],
  batch: number,
  decoder: "greedy" | "beam",
): Transcription {
  const recognizer = new Recognizer(model, { decoder });
  const calls = inCalls(utterances, batch);
  return ours(spec, weightBytes, () => {
    for (const call of calls) recognizer.transcribeBatch(call);
  });
}

/** Log-mel features to logits. @param batch utterances of one call: one, or all */
function networkAlone({ spec, network, weightBytes }: Loaded, features: readonly Float32Array[], batch: number): Transcription {
  const calls = inCalls(features, batch);
  return ours(spec, weightBytes, () => {
    for (const call of calls) forward(network, call);
  });
}

function forward(network: LasrForCtc, features: readonly Float32Array[]): void {
  tidy(() => {
    const offsets = new SequenceOffsets(features.map((values) => values.length / melBins));
    const packed = Tensor.zeros([offsets.frames, melBins]);
    features.forEach((values, item) => packed.rows(offsets.begin(item), offsets.begin(item) + values.length / melBins).write(values));
    network.forward(packed, offsets).logits.toArray();
  });
}

function ours(spec: string, weightBytes: number, pass: () => void): Transcription {
  pass();
  return {
    impl: "usm-lite",
    spec,
    weightBytes,
    peakBytes: peakBytes(pass, weightBytes),
    run: (repetitions) => timed(pass, repetitions),
  };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

function inCalls<T>(items: readonly T[], batch: number): T[][] {
  return Array.from({ length: items.length / batch }, (_, call) => items.slice(call * batch, (call + 1) * batch));
}

async function measure(
  context: BenchmarkContext,
  threads: number,
  name: string,
  audioSeconds: number,
  contestants: readonly Transcription[],
): Promise<void> {
  const timings = await measureInTurn(contestants, turns);
  timings.forEach((timing, index) => {
    context.record(transcriptionRecord(name, threads, audioSeconds, contestants[index] as Transcription, timing));
  });
}

export function transcriptionRecord(
  name: string,
  threads: number,
  audioSeconds: number,
  { impl, spec, note, peakBytes, weightBytes }: Transcription,
  timing: Timing,
): BenchmarkRecord {
  return {
    suite: "transcribe",
    case: name,
    impl,
    spec,
    device: "cpu",
    threads,
    ...timing,
    rtfx: audioSeconds / (timing.ms / 1000),
    ...(peakBytes === undefined ? {} : { peakBytes }),
    ...(weightBytes === undefined ? {} : { weightBytes }),
    ...(note === undefined ? {} : { note }),
  };
}
