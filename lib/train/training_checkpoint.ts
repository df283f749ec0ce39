/** Training checkpoints: one safetensors file each, complete or absent, holding all that a run depends on. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { readSafetensors, type SafetensorsFile } from "../checkpoint/safetensors.js";
import { writeSafetensors } from "../checkpoint/safetensors_writer.js";
import { differenceOfManifests, type ManifestDigest } from "../data/manifest_digest.js";
import { DeviceParameter, storedForm, storedShapeOf } from "../device/device_parameter.js";
import { UsmLiteError } from "../errors.js";
import { tidy } from "../tensor/scope.js";
import { Tensor, type TensorValues } from "../tensor/tensor.js";

const metadataKey = "usm_lite_training";

const count = z.number().int().nonnegative();
const positionSchema = z.strictObject({
  step: count,
  epoch: count,
  batch: count,
  seed: count,
  randomPosition: count,
  optimizerSteps: count,
  averageUpdates: count,
  manifests: z.array(z.strictObject({ path: z.string(), sha256: z.string() })).optional(),
});

/** Where a run stands. */
export interface TrainingPosition {
  /** Steps done, skipped ones included. */
  readonly step: number;
  /** Epoch and batch within it that come next. */
  readonly epoch: number;
  readonly batch: number;
  readonly seed: number;
  /** Position of the run's random stream. */
  readonly randomPosition: number;
  readonly optimizerSteps: number;
  readonly averageUpdates: number;
  /** The speech that the run hears; absent: not known. */
  readonly manifests?: readonly ManifestDigest[] | undefined;
}

/** Tensors of a run by section and name: `parameter`, `buffer`, `optimizer`, `average`, `modifier`. */
export type TrainingState = ReadonlyMap<string, ReadonlyMap<string, Tensor>>;

/** The folder of a run's checkpoints, named by their step. */
export class CheckpointFolder {
  /** @param keep how many of the newest checkpoints stay */
  constructor(
    readonly path: string,
    private readonly keep: number,
  ) {}

  /**
   * Writes a checkpoint, the same for tensors on the CPU and on the GPU, then removes those beyond the newest `keep`. Returns its path.
   * @throws UsmLiteError FILE_UNWRITABLE
   */
  save(position: TrainingPosition, state: TrainingState): string {
    makeFolder(this.path);
    const path = join(this.path, `step-${String(position.step).padStart(8, "0")}.safetensors`);
    tidy(() => {
      const entries = namedTensors(state).map(([name, tensor]) => [name, storedForm(tensor)] as const);
      writeSafetensors(path, entries, { [metadataKey]: JSON.stringify(position) });
    });
    for (const old of this.list().slice(0, -this.keep)) rmSync(old, { force: true });
    return path;
  }

  /** Paths of all checkpoints, oldest first. */
  list(): string[] {
    let names: string[];
    try {
      names = readdirSync(this.path);
    } catch {
      return [];
    }
    return names
      .filter((name) => /^step-\d{8,}\.safetensors$/.test(name))
      .sort((a, b) => stepOf(a) - stepOf(b))
      .map((name) => join(this.path, name));
  }

  latest(): string | undefined {
    return this.list().at(-1);
  }
}

/**
 * Refuses to go on from a checkpoint with other speech. One that does not say what it was trained on, or a run that does not, is let through.
 * @throws UsmLiteError FILE_NOT_FOUND, BAD_CHECKPOINT
 */
export function refuseOtherSpeech(path: string, manifests: readonly ManifestDigest[] | undefined): void {
  if (!manifests) return;
  using file = readSafetensors(path);
  const difference = differenceOfManifests(positionOf(file).manifests ?? manifests, manifests);
  if (difference === undefined) return;
  throw new UsmLiteError(
    "BAD_CHECKPOINT",
    `${path} was trained on the speech ${difference}; put back what it held to continue this run, or begin another in a new folder`,
  );
}

/**
 * Reads a checkpoint into the tensors of `state`, all of which it must hold with the same shapes. Nothing is changed
 * unless everything fits.
 * @throws UsmLiteError FILE_NOT_FOUND, BAD_CHECKPOINT
 */
export function restoreCheckpoint(path: string, state: TrainingState): TrainingPosition {
  using file = readSafetensors(path);
  const position = positionOf(file);
  const wanted = namedTensors(state);
  for (const [name, tensor] of wanted) {
    if (!file.has(name)) {
      throw new UsmLiteError("BAD_CHECKPOINT", `${path} has no tensor "${name}": it belongs to another model or training configuration`);
    }
    const [found, needed] = [file.shape(name), storedShapeOf(tensor)];
    if (found.join() !== needed.join()) {
      throw new UsmLiteError(
        "BAD_CHECKPOINT",
        `${path}: tensor "${name}" has shape (${found.join(", ")}) but this run needs (${needed.join(", ")})`,
      );
    }
  }
  for (const [name, tensor] of wanted) restore(tensor, file.values(name));
  return position;
}

function restore(tensor: Tensor, values: TensorValues): void {
  if (!(tensor instanceof DeviceParameter)) return tensor.write(values);
  using stored = Tensor.from(values, tensor.storedShape);
  tensor.restore(stored);
}

const namedTensors = (state: TrainingState): (readonly [string, Tensor])[] =>
  [...state].flatMap(([section, tensors]) => Array.from(tensors, ([name, tensor]) => [`${section}.${name}`, tensor] as const));

function positionOf(file: SafetensorsFile): TrainingPosition {
  try {
    return positionSchema.parse(JSON.parse(file.metadata[metadataKey] ?? ""));
  } catch (cause) {
    throw new UsmLiteError("BAD_CHECKPOINT", `${file.path} is not a training checkpoint: its metadata lacks a valid "${metadataKey}"`, {
      cause,
    });
  }
}

const stepOf = (name: string): number => Number(name.replace(/\D/g, ""));
