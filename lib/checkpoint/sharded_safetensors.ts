/**
 * Checkpoints in several safetensors files: `model.safetensors.index.json` says in its `weight_map` which file holds
 * each tensor.
 */
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { UsmLiteError } from "../errors.js";
import type { Tensor, TensorValues } from "../tensor/tensor.js";
import { readJsonFile } from "./json_file.js";
import { readSafetensors, type SafetensorsFile } from "./safetensors.js";
import type { SafetensorsDtype } from "./safetensors_dtype.js";
import type { TensorFile } from "./tensor_file.js";

const WEIGHTS = "model.safetensors";
const INDEX = `${WEIGHTS}.index.json`;

/**
 * Opens the weights of a model folder: `model.safetensors`, or the files that `model.safetensors.index.json` names.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_CHECKPOINT
 */
export function readWeights(folder: string): TensorFile {
  const single = join(folder, WEIGHTS);
  const index = join(folder, INDEX);
  if (existsSync(single)) return readSafetensors(single);
  if (existsSync(index)) return new ShardedSafetensors(index);
  throw new UsmLiteError(
    "FILE_NOT_FOUND",
    `${single} does not exist, nor ${INDEX} beside it; weights in other formats can be converted by save_pretrained of transformers`,
  );
}

/** Paths of the files that hold the weights of a model folder. */
export function weightFiles(folder: string): string[] {
  const single = join(folder, WEIGHTS);
  const index = join(folder, INDEX);
  if (existsSync(single) || !existsSync(index)) return [single];
  const map = readJsonFile(index, "BAD_CHECKPOINT")["weight_map"] ?? {};
  return [...new Set(Object.values(map as object))].map((shard) => join(folder, String(shard)));
}

class ShardedSafetensors implements TensorFile {
  private readonly files = new Map<string, SafetensorsFile>();
  private readonly fileOf = new Map<string, SafetensorsFile>();

  /** @param path the index */
  constructor(readonly path: string) {
    try {
      const map = readJsonFile(path, "BAD_CHECKPOINT")["weight_map"];
      if (typeof map !== "object" || map === null || Array.isArray(map)) return this.fail('must have an object "weight_map"');
      for (const [name, shard] of Object.entries(map)) {
        // The index is untrusted: it must not reach files outside of its folder.
        if (typeof shard !== "string" || basename(shard) !== shard || !shard.endsWith(".safetensors")) {
          return this.fail(`puts tensor "${name}" into ${JSON.stringify(shard)}, which is no safetensors file beside it`);
        }
        const file = this.open(shard);
        if (!file.has(name)) this.fail(`puts tensor "${name}" into ${shard}, which has none of that name`);
        this.fileOf.set(name, file);
      }
      for (const [shard, file] of this.files) {
        const stray = file.names().find((name) => this.fileOf.get(name) !== file);
        if (stray !== undefined) this.fail(`does not say that tensor "${stray}" is in ${shard}, though it is`);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  names(): string[] {
    return [...this.fileOf.keys()];
  }

  has(name: string): boolean {
    return this.fileOf.has(name);
  }

  shape(name: string): readonly number[] {
    return this.file(name).shape(name);
  }

  dtype(name: string): SafetensorsDtype {
    return this.file(name).dtype(name);
  }

  byteLength(name: string): number {
    return this.file(name).byteLength(name);
  }

  bytes(name: string): Uint8Array {
    return this.file(name).bytes(name);
  }

  tensor(name: string): Tensor {
    return this.file(name).tensor(name);
  }

  values(name: string): TensorValues {
    return this.file(name).values(name);
  }

  close(): void {
    for (const file of this.files.values()) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private open(shard: string): SafetensorsFile {
    let file = this.files.get(shard);
    if (!file) this.files.set(shard, (file = readSafetensors(join(dirname(this.path), shard))));
    return file;
  }

  private file(name: string): SafetensorsFile {
    return this.fileOf.get(name) ?? this.fail(`names no tensor "${name}"`);
  }

  private fail(problem: string): never {
    throw new UsmLiteError("BAD_CHECKPOINT", `${this.path} ${problem.length > 500 ? `${problem.slice(0, 500)}...` : problem}`);
  }
}
