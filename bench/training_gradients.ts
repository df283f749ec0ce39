/**
 * Loss and gradients of every parameter beside those of transformers, on the inputs of a checkpoint's `expected.safetensors`
 * (docs/parity.md).
 *
 * usage: USMLITE_PYTHON=PYTHON node dist/bench/training_gradients.js MODEL_FOLDER ..
 */
import "../lib/cli/one_line_failures.js";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  loadModel,
  readSafetensors,
  SequenceOffsets,
  Tape,
  Tensor,
  tidy,
  trainableNetwork,
  UsmLiteError,
  writeSafetensors,
  type TrainableNetwork,
  type TrainingBatch,
} from "../lib/index.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { packageRoot } from "./package_root.js";

const folders = process.argv.slice(2);
if (folders.length === 0) throw new UsmLiteError("INVALID_ARGUMENT", "name folders of models");
const temporary = mkdtempSync(join(tmpdir(), "usm-lite-gradients-"));
try {
  for (const folder of folders) compare(folder);
} finally {
  rmSync(temporary, { recursive: true, force: true });
}

function compare(folder: string): void {
  const network = trainableNetwork(loadModel(folder));
  const ours = join(temporary, "ours.safetensors");
  tidy(() => {
    for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
    const batch = batchOf(network, join(folder, "expected.safetensors"));
    const tape = new Tape();
    const { loss } = tape.record(() => network.loss(batch, { training: true, random: new RandomStream(1), step: 0 }));
    tape.backward(loss);
    const gradients = [...network.parameters()].flatMap(([name, parameter]): [string, Tensor][] => {
      const gradient = tape.gradientOf(parameter);
      return gradient ? [[name, gradient]] : [];
    });
    const longest = Math.max(...batch.targets.map(({ length }) => length));
    const padded = batch.targets.flatMap((labels) => [...labels, ...new Array<number>(longest - labels.length).fill(-1)]);
    writeSafetensors(ours, [
      ["loss", loss],
      ["targets", Tensor.from(Int32Array.from(padded), [batch.targets.length, longest])],
      ...gradients,
    ]);
    tape.dispose();
  });
  const script = join(packageRoot, "bench", "peers", "training_gradients.py");
  process.stdout.write(
    execFileSync(process.env["USMLITE_PYTHON"] ?? "python3", [script, folder, ours], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    }),
  );
}

/** The inputs without their padding, with made-up transcripts. */
function batchOf(network: TrainableNetwork, path: string): TrainingBatch {
  using file = readSafetensors(path);
  const { featureSize, vocabularySize } = network;
  const name = featureSize === 1 ? "input_values" : "input_features";
  const [size, frames] = file.shape(name) as [number, number];
  const values = file.values(name) as Float32Array;
  const mask = file.has("attention_mask") ? [...file.values("attention_mask")].map(Number) : undefined;
  const lengths = Array.from({ length: size }, (_, item) =>
    mask ? mask.slice(item * frames, (item + 1) * frames).reduce((sum, one) => sum + Number(one > 0), 0) : frames,
  );
  const offsets = new SequenceOffsets(lengths);
  const packed = new Float32Array(offsets.frames * featureSize);
  lengths.forEach((length, item) => {
    const begin = item * frames * featureSize;
    packed.set(values.subarray(begin, begin + length * featureSize), offsets.begin(item) * featureSize);
  });
  const blank = network.kind === "sequence-to-sequence" ? -1 : network.blankId;
  const usable = Array.from({ length: vocabularySize }, (_, id) => id).filter((id) => id !== blank);
  const targets = lengths.map((_, item) =>
    Array.from({ length: 3 + item }, (_, label) => usable[(7 * item + 5 * label + 3) % usable.length] as number),
  );
  return { features: Tensor.from(packed, [offsets.frames, featureSize]), offsets, targets, plain: true, audioSeconds: 1 };
}
