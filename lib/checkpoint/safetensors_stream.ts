/** A safetensors file written tensor by tensor: memory holds one at a time, however large the file. */
import { closeSync, openSync, readSync, rmSync } from "node:fs";
import { UsmLiteError } from "../errors.js";
import { Tensor } from "../tensor/tensor.js";
import { writeAll, writeFileAtomically } from "./atomic_file.js";
import { safetensorsHeader, type HeaderEntry, type SafetensorsEntry } from "./safetensors_writer.js";
import { bitsOfDtype, compareDtypes, dtypeOfTensor, type SafetensorsDtype } from "./safetensors_dtype.js";

/** The tensors of one element type: each type is gathered in a file of its own, since wide types come first in the result. */
interface Gathered {
  readonly path: string;
  readonly handle: number;
  readonly entries: HeaderEntry[];
}

/**
 * Gathers tensors on disk, then puts them together. Dispose of it when done, or when not.
 * @example
 * using stream = new SafetensorsStream(path);
 * for (const name of names) stream.append(name, read(name));
 * stream.finish({ format: "pt" });
 */
export class SafetensorsStream implements Disposable {
  private readonly gathered = new Map<SafetensorsDtype, Gathered>();

  constructor(private readonly path: string) {}

  /** @throws UsmLiteError FILE_UNWRITABLE, INVALID_ARGUMENT when data does not fit its shape */
  append(name: string, entry: SafetensorsEntry): void {
    const dtype = entry instanceof Tensor ? dtypeOfTensor[entry.dtype] : entry.dtype;
    const data: ArrayBufferView = entry instanceof Tensor ? entry.toArray() : entry.data;
    const wanted = entry.shape.reduce((product, extent) => product * extent, bitsOfDtype[dtype]) / 8;
    if (data.byteLength !== wanted) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `${this.path}: tensor "${name}" of ${dtype} (${entry.shape.join(", ")}) needs ${wanted} bytes, got ${data.byteLength}`,
      );
    }
    const { handle, entries } = this.open(dtype);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.attempt(() => writeAll(handle, bytes));
    entries.push({ name, dtype, shape: entry.shape, bytes: bytes.length });
  }

  /** Writes the file, whole or not at all. @throws UsmLiteError FILE_UNWRITABLE, INVALID_ARGUMENT for a name that was used twice */
  finish(metadata: Readonly<Record<string, string>> = {}): void {
    const ordered = [...this.gathered].sort(([a], [b]) => compareDtypes(a, b)).map(([, part]) => part);
    const header = safetensorsHeader(
      this.path,
      ordered.flatMap(({ entries }) => entries),
      metadata,
    );
    const block = new Uint8Array(2 ** 22);
    writeFileAtomically(this.path, (append) => {
      append(header);
      for (const { handle, entries } of ordered) {
        const end = entries.reduce((sum, { bytes }) => sum + bytes, 0);
        for (let position = 0; position < end;) {
          const count = this.attempt(() => readSync(handle, block, 0, Math.min(block.length, end - position), position));
          append(block.subarray(0, count));
          position += count;
        }
      }
    });
  }

  [Symbol.dispose](): void {
    for (const { path, handle } of this.gathered.values()) {
      closeSync(handle);
      rmSync(path, { force: true });
    }
    this.gathered.clear();
  }

  private open(dtype: SafetensorsDtype): Gathered {
    let part = this.gathered.get(dtype);
    if (!part) {
      const path = `${this.path}.${dtype}.partial`;
      this.gathered.set(dtype, (part = { path, handle: this.attempt(() => openSync(path, "w+")), entries: [] }));
    }
    return part;
  }

  private attempt<Result>(action: () => Result): Result {
    try {
      return action();
    } catch (cause) {
      throw new UsmLiteError("FILE_UNWRITABLE", `${this.path} cannot be written: ${(cause as Error).message}`, { cause });
    }
  }
}
