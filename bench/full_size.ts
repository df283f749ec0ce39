/**
 * Published models at their size, with random weights: how much memory compression needs, how large the packed model is, how long it loads
 * and how fast it transcribes. Each step is a process of its own, so that its peak memory is its own.
 *
 * usage: node dist/bench/full_size.js --model parakeet-tdt-0.6b --folder BUILD [--steps write,compress,float,packed,peer] [--json FILE]
 */
import "../lib/cli/one_line_failures.js";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeSafetensors } from "../lib/checkpoint/safetensors_writer.js";
import { SafetensorsStream } from "../lib/checkpoint/safetensors_stream.js";
import type { JsonObject } from "../lib/checkpoint/json_file.js";
import { writeSequences } from "../lib/decode/sequence_search.js";
import type { TransducerInput } from "../lib/decode/transducer.js";
import { transducerGreedy } from "../lib/decode/transducer_greedy.js";
import { compressModel, loadModel, measureModel, SequenceOffsets, threadCount, tidy, type SpeechModel } from "../lib/index.js";
import { describeModel } from "../lib/models/model_folder.js";
import type { DecoderMemory } from "../lib/nn/decoder_session.js";
import type { WeightSource } from "../lib/nn/weight_source.js";
import { keep } from "../lib/tensor/scope.js";
import { Tensor } from "../lib/tensor/tensor.js";
import { exampleSpeech } from "./example_speech.js";
import { fullSizeModels, type FullSizeModel } from "./full_size_models.js";
import { packageRoot } from "./package_root.js";

/** Writes each weight as it is asked for: memory holds one. */
class WrittenWeights implements WeightSource {
  private readonly block = Float32Array.from({ length: 1 << 20 }, (_, i) => Math.sin(i * 12.9898) * 0.04);
  private readonly placeholder = keep(Tensor.zeros([0]));

  constructor(private readonly stream: SafetensorsStream) {}

  tensor(name: string, shape: readonly number[], initialization: string): Tensor {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const values = new Float32Array(size);
    if (initialization === "ones") values.fill(1);
    else if (initialization !== "zeros")
      for (let at = 0; at < size; at += this.block.length) values.set(this.block.subarray(0, Math.min(this.block.length, size - at)), at);
    this.stream.append(name, { dtype: "F32", shape, data: values });
    return this.placeholder;
  }

  matrix(name: string, shape: readonly number[], initialization: string): Tensor {
    return this.tensor(name, shape, initialization);
  }

  has(): boolean {
    return false;
  }
}

/** Highest resident memory of this process so far, in bytes. */
const peakMemory = (): number => Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;

type Step = (name: string, folder: string) => Promise<object>;

const seconds = async (work: () => unknown): Promise<number> => {
  const started = performance.now();
  await work();
  return Math.round(performance.now() - started) / 1000;
};

const steps: Readonly<Record<string, Step>> = {
  write: async (name, folder) => {
    const { config, generation, preprocessor } = fullSizeModels[name] as FullSizeModel;
    const path = join(folder, "float");
    mkdirSync(path, { recursive: true });
    for (const [file, content] of Object.entries({ config, generation_config: generation, preprocessor_config: preprocessor })) {
      writeFileSync(join(path, `${file}.json`), JSON.stringify(content));
    }
    using stream = new SafetensorsStream(join(path, "model.safetensors"));
    describeModel(config as JsonObject, "config.json", generation as JsonObject).network(new WrittenWeights(stream));
    stream.finish();
    return { floatBytes: statSync(join(path, "model.safetensors")).size };
  },
  compress: async (name, folder) => {
    const { recipe } = fullSizeModels[name] as FullSizeModel;
    const out = join(folder, "packed");
    const compressSeconds = await seconds(() => compressModel({ model: join(folder, "float"), recipe, manifest: undefined, out }));
    const { file, linear } = measureModel(out);
    return {
      compressSeconds,
      compressPeakBytes: peakMemory(),
      packedBytes: file.bytes,
      parameters: file.parameters,
      packedPercentOfFloat32: file.percentOfFloat32,
      linearBitsPerWeight: linear.bitsPerWeight,
    };
  },
  float: (_, folder) => transcription(join(folder, "float"), "float"),
  packed: (_, folder) => transcription(join(folder, "packed"), "packed"),
  peer: async (_, folder) => ({ peer: await transformersEncoder(join(folder, "float"), join(folder, "features.safetensors")) }),
};

/** The same checkpoint and the same features in transformers; says why where it cannot run. */
async function transformersEncoder(folder: string, recorded: string): Promise<unknown> {
  const { frontEnd, network } = loadModel(folder);
  const features = frontEnd.features(await halfAMinute());
  const [frames, width] = features.shape as [number, number];
  const values = features.toArray();
  // Whisper's encoder takes (mel bins, frames).
  const turned = network.kind === "sequence-to-sequence" && network.fixedWindow;
  const data = turned ? Float32Array.from(values, (_, i) => values[(i % frames) * width + Math.floor(i / frames)] as number) : values;
  writeSafetensors(recorded, [["input_features", { dtype: "F32", shape: turned ? [1, width, frames] : [1, frames, width], data }]]);
  network.dispose();
  const script = join(packageRoot, "bench", "peers", "full_size.py");
  try {
    return JSON.parse(
      execFileSync(process.env["USMLITE_PYTHON"] ?? "python3", [script, String(threadCount()), folder, recorded], { encoding: "utf8" }),
    );
  } catch (error) {
    return { skipped: (error as Error).message.split("\n").filter(Boolean).at(-1) };
  }
}

async function halfAMinute(): Promise<Float32Array> {
  const { utterances } = await exampleSpeech();
  const speech = utterances[0] as Float32Array;
  return Float32Array.from({ length: 30 * 16000 }, (_, i) => speech[i % speech.length] as number);
}

/** 30 s of speech through encoder and decoder. Random weights give no text, so the decoder's steps are counted beside its time. */
async function transcription(folder: string, label: string): Promise<object> {
  let model: SpeechModel | undefined;
  const loadSeconds = await seconds(() => (model = loadModel(folder)));
  const loaded = model as SpeechModel;
  const samples = await halfAMinute();
  const runs: { encoder: number; decoder: number; decoderSteps: number }[] = [];
  for (let run = 0; run < 3; run++) runs.push(await transcribeOnce(loaded, samples));
  const { encoder, decoder, decoderSteps } = runs.sort((a, b) => a.encoder - b.encoder)[1] as (typeof runs)[0];
  const rtfx = (duration: number): number => Math.round(3000 / duration) / 100;
  return {
    [label]: {
      loadSeconds,
      encoderSeconds: encoder,
      encoderRtfx: rtfx(encoder),
      decoderSeconds: decoder,
      decoderSteps,
      rtfx: rtfx(encoder + decoder),
      peakBytes: peakMemory(),
    },
  };
}

async function transcribeOnce(
  { network, frontEnd }: SpeechModel,
  samples: Float32Array,
): Promise<{ encoder: number; decoder: number; decoderSteps: number }> {
  const features = frontEnd.features(samples);
  const offsets = new SequenceOffsets([features.dim(0)]);
  let decoderSteps = 0;
  let encoder = 0;
  let decoder = 0;
  if (network.kind === "transducer") {
    let input: TransducerInput = { values: new Float32Array(0), frames: 0 };
    encoder = await seconds(
      () =>
        (input = tidy(() => ({
          values: network.encode(features, offsets).projected.toArray(),
          frames: network.hiddenFrames(features.dim(0)),
        }))),
    );
    decoder = await seconds(() => (decoderSteps = transducerGreedy(network, [input])[0]?.steps.length ?? 0));
  } else if (network.kind === "sequence-to-sequence") {
    const { startId, endId } = network.generation;
    let memory: DecoderMemory | undefined;
    encoder = await seconds(() => (memory = tidy(() => network.remember(network.encode(features, offsets)))));
    using remembered = memory as DecoderMemory;
    using session = network.session(remembered);
    const request = { item: 0, prompt: [startId], endId, maximumLength: 65 };
    decoder = await seconds(
      () => (decoderSteps = writeSequences(network, session, [request]).reduce((sum, { tokens }) => sum + tokens.length, 0)),
    );
  } else {
    encoder = await seconds(() => tidy(() => network.forward(features, offsets).logits.toArray()));
  }
  features.dispose();
  return { encoder, decoder, decoderSteps };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      model: { type: "string" },
      folder: { type: "string" },
      step: { type: "string" },
      steps: { type: "string" },
      json: { type: "string" },
      keep: { type: "boolean" },
    },
  });
  const name = values.model ?? "parakeet-tdt-0.6b";
  const folder = join(values.folder ?? "build/full-size", name);
  if (values.step) {
    process.stdout.write(JSON.stringify(await (steps[values.step] as Step)(name, folder)));
    return;
  }
  rmSync(folder, { recursive: true, force: true });
  const script = fileURLToPath(import.meta.url);
  const result: Record<string, unknown> = {
    model: name,
    machine: cpus()[0]?.model,
    threads: threadCount(),
    date: new Date().toISOString().slice(0, 10),
  };
  for (const step of values.steps?.split(",") ?? Object.keys(steps)) {
    const output = execFileSync(
      process.execPath,
      [script, "--model", name, "--folder", values.folder ?? "build/full-size", "--step", step],
      { encoding: "utf8" },
    );
    Object.assign(result, JSON.parse(output));
    console.error(`${step}: ${output}`);
  }
  if (!values.keep && existsSync(folder)) rmSync(folder, { recursive: true });
  const text = `${JSON.stringify(result, null, 2)}\n`;
  if (values.json) writeFileSync(values.json, text);
  else process.stdout.write(text);
}

await main();
