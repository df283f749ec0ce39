/**
 * Loss and gradients of every parameter beside those of transformers in float64, on the inputs of a checkpoint's `expected.safetensors` and
 * made-up transcripts (docs/parity.md): the reference checkpoints, or the folders that random_parity.js keeps.
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
  Tape,
  Tensor,
  tidy,
  trainableNetwork,
  UsmLiteError,
  writeSafetensors,
  type TrainableNetwork,
  type TrainingBatch,
} from "../lib/index.js";
import { readPaddedBatch } from "../lib/models/padded_forward.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { packageRoot } from "./package_root.js";

const folders = process.argv.slice(2);
if (folders.length === 0) throw new UsmLiteError("INVALID_ARGUMENT", "name folders of models");
const context = { training: true, random: new RandomStream(1), step: 0 };
const temporary = mkdtempSync(join(tmpdir(), "usm-lite-gradients-"));
try {
  const pairs = folders.flatMap((folder, index) => {
    const path = join(temporary, `${index}.safetensors`);
    return writeGradients(folder, path) ? [folder, path] : [];
  });
  const script = join(packageRoot, "bench", "peers", "training_gradients.py");
  execFileSync(process.env["USMLITE_PYTHON"] ?? "python3", [script, ...pairs], { stdio: ["ignore", "inherit", "inherit"] });
} finally {
  rmSync(temporary, { recursive: true, force: true });
}

/** @returns false, and why on standard output, for a model that is refused or has too few frames for a transcript */
function writeGradients(folder: string, path: string): boolean {
  const refused = (why: string): boolean => {
    console.log(`${folder}: left out, ${why}`);
    return false;
  };
  let network: TrainableNetwork;
  try {
    network = trainableNetwork(loadModel(folder));
  } catch (error) {
    if (error instanceof UsmLiteError && ["BAD_CONFIG", "UNSUPPORTED_MODEL"].includes(error.code)) return refused(error.message);
    throw error;
  }
  return tidy(() => {
    for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
    const inputs = join(folder, "expected.safetensors");
    const isFeasible = (each: TrainingBatch): boolean => (network.loss(each, context).infeasible ?? 0) === 0;
    const batch = [false, true].map((brief) => batchOf(network, inputs, brief)).find(isFeasible);
    if (!batch) return refused("there is no room for transcripts");
    using tape = new Tape();
    const { loss } = tape.record(() => network.loss(batch, context));
    tape.backward(loss);
    const gradients = [...network.parameters()].flatMap(([name, parameter]): [string, Tensor][] => {
      const gradient = tape.gradientOf(parameter);
      return gradient ? [[name, gradient]] : [];
    });
    const longest = Math.max(...batch.targets.map(({ length }) => length));
    const padded = batch.targets.flatMap((labels) => [...labels, ...new Array<number>(longest - labels.length).fill(-1)]);
    writeSafetensors(path, [
      ["loss", loss],
      ["targets", Tensor.from(Int32Array.from(padded), [batch.targets.length, longest])],
      ["silent", Tensor.from(Int32Array.of(tokensWithoutLoss(network)), [1])],
      ...gradients,
    ]);
    return true;
  });
}

/** Tokens of a prompt that a sequence-to-sequence model is given and does not have to foresee. */
function tokensWithoutLoss(network: TrainableNetwork): number {
  if (network.kind !== "sequence-to-sequence") return 0;
  const { promptPieces } = network.generation;
  return promptPieces ? promptPieces("").length - 1 : 0;
}

/** The inputs without their padding, with made-up transcripts, each of one token more than the one before, or as brief as can be. */
function batchOf(network: TrainableNetwork, path: string, brief: boolean): TrainingBatch {
  using file = readSafetensors(path);
  const { features, offsets } = readPaddedBatch(network, file);
  const blank = network.kind === "sequence-to-sequence" ? -1 : network.blankId;
  const usable = Array.from({ length: network.vocabularySize }, (_, id) => id).filter((id) => id !== blank);
  const fewest = network.kind === "sequence-to-sequence" ? 2 : 1; // the one that begins a sequence is foreseen by nobody
  const targets = offsets.lengths.map((_, item) =>
    Array.from(
      { length: tokensWithoutLoss(network) + (brief ? fewest : 3 + item) },
      (_, label) => usable[(7 * item + 5 * label + 3) % usable.length] as number,
    ),
  );
  return { features, offsets, targets, plain: true, audioSeconds: 1 };
}
