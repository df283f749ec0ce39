/**
 * Reading safetensors (github.com/huggingface/safetensors): a little-endian u64 header length, a JSON header
 * `{"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {string: string}}`, then the bytes of all
 * tensors without holes or overlaps. Files are untrusted: every rule is checked before any tensor is read.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { UsmLiteError } from "../errors.js";
import { Tensor, type TensorValues } from "../tensor/tensor.js";
import { decodeUtf8, parseJsonObject, unreadableFile, type JsonObject, type JsonValue } from "./json_file.js";
import { bitsOfDtype, decodeValues, isSafetensorsDtype, type SafetensorsDtype } from "./safetensors_dtype.js";
import { LENGTH_BYTES, METADATA } from "./safetensors_writer.js";
import type { TensorFile } from "./tensor_file.js";

const MAXIMUM_HEADER_BYTES = 100_000_000;

interface Entry {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly begin: number;
  readonly end: number;
}

/**
 * Opens a safetensors file and checks its header; tensors are read when asked for. Close it when done.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE; BAD_CHECKPOINT when any rule of the format is broken
 *
 * @example
 * using file = readSafetensors("model/model.safetensors");
 * for (const name of file.names()) console.log(name, file.dtype(name), file.shape(name));
 */
export function readSafetensors(path: string): SafetensorsFile {
  let handle: number;
  try {
    handle = openSync(path, "r");
  } catch (error) {
    throw unreadableFile(path, error);
  }
  try {
    return new SafetensorsFile(path, handle);
  } catch (error) {
    closeSync(handle);
    throw error;
  }
}

/**
 * An open safetensors file. Make one with {@link readSafetensors}.
 *
 * @example
 * using file: SafetensorsFile = readSafetensors("float/model.safetensors");
 * const bias = file.tensor("ctc_head.bias"); // float32
 */
export class SafetensorsFile implements TensorFile {
  /** The free text pairs of the header. */
  readonly metadata: Readonly<Record<string, string>>;
  private readonly entries: ReadonlyMap<string, Entry>;
  private closed = false;

  constructor(
    readonly path: string,
    private readonly handle: number,
  ) {
    const fileBytes = this.fileSize();
    if (fileBytes < LENGTH_BYTES) this.fail(`is ${fileBytes} bytes long; a safetensors file begins with 8 bytes of header length`);
    const prefix = this.readBytes(0, LENGTH_BYTES);
    const length = new DataView(prefix.buffer).getBigUint64(0, true);
    if (length > BigInt(Math.min(MAXIMUM_HEADER_BYTES, fileBytes - LENGTH_BYTES))) {
      this.fail(`says its header has ${length} bytes; it must fit in the file (${fileBytes} bytes) and in 100 MB`);
    }
    const dataBegin = LENGTH_BYTES + Number(length);
    const text = decodeUtf8(this.readBytes(LENGTH_BYTES, dataBegin), `the header of ${path}`, "BAD_CHECKPOINT");
    if (!text.startsWith("{")) this.fail(`is not a safetensors file: its header must begin with "{"`);
    const header = parseJsonObject(text, `the header of ${path}`, "BAD_CHECKPOINT");
    this.metadata = this.checkedMetadata(header[METADATA]);
    this.entries = this.checkedEntries(header, dataBegin, fileBytes);
  }

  /** Names of all tensors, in the order of their bytes. */
  names(): string[] {
    return [...this.entries.keys()];
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  shape(name: string): readonly number[] {
    return this.entry(name).shape;
  }

  dtype(name: string): SafetensorsDtype {
    return this.entry(name).dtype;
  }

  /** Length of a tensor in the file. */
  byteLength(name: string): number {
    const { begin, end } = this.entry(name);
    return end - begin;
  }

  /** A copy of the bytes of a tensor, as they are in the file. */
  bytes(name: string): Uint8Array {
    const { begin, end } = this.entry(name);
    return this.readBytes(begin, end);
  }

  /**
   * A tensor's values: every float type as float32, integers as int32 (I8 as int8, U8 and BOOL as uint8).
   * @throws UsmLiteError BAD_CHECKPOINT when the name is absent, an integer does not fit, or the dtype is an 8-, 6- or
   * 4-bit float or complex (read those through {@link SafetensorsFile.bytes})
   */
  tensor(name: string): Tensor {
    return Tensor.from(this.values(name), this.shape(name));
  }

  /** As {@link SafetensorsFile.tensor}, in JavaScript memory. */
  values(name: string): TensorValues {
    const dtype = this.dtype(name);
    let values: TensorValues | undefined;
    try {
      values = decodeValues(dtype, this.bytes(name));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.fail(`tensor "${name}" of dtype ${dtype}: ${error.message}`);
    }
    return values ?? this.fail(`tensor "${name}" has dtype ${dtype}, which cannot be converted to float32 or int32`);
  }

  /** Gives the file handle back. Safe to call twice. */
  close(): void {
    if (!this.closed) closeSync(this.handle);
    this.closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private entry(name: string): Entry {
    return this.entries.get(name) ?? this.fail(`has no tensor "${name}"`);
  }

  private fileSize(): number {
    const status = fstatSync(this.handle);
    if (!status.isFile()) throw new UsmLiteError("FILE_UNREADABLE", `${this.path} is not a regular file`);
    return status.size;
  }

  private readBytes(begin: number, end: number): Uint8Array {
    if (this.closed) throw new UsmLiteError("INVALID_ARGUMENT", `${this.path} was closed; open it again to read from it`);
    const bytes = allocate(end - begin, this.path);
    const largest = 2 ** 30; // one read call takes at most 2 GiB
    for (let done = 0; done < bytes.length;) {
      const count = this.readOnce(bytes, done, Math.min(bytes.length - done, largest), begin + done);
      if (count === 0) this.fail(`became shorter while it was read`);
      done += count;
    }
    return bytes;
  }

  private readOnce(bytes: Uint8Array, offset: number, length: number, position: number): number {
    try {
      return readSync(this.handle, bytes, offset, length, position);
    } catch (error) {
      throw unreadableFile(this.path, error);
    }
  }

  private checkedMetadata(value: JsonValue | undefined): Record<string, string> {
    if (value === undefined) return {};
    if (!isObject(value) || Object.values(value).some((text) => typeof text !== "string")) {
      this.fail(`has a "${METADATA}" that is not an object of strings`);
    }
    return value as Record<string, string>;
  }

  private checkedEntries(header: JsonObject, dataBegin: number, fileBytes: number): Map<string, Entry> {
    const entries = Object.entries(header)
      .filter(([name]) => name !== METADATA)
      .map(([name, value]) => [name, this.checkedEntry(name, value, dataBegin)] as const)
      .sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
    let position = dataBegin;
    for (const [name, { begin, end }] of entries) {
      if (begin !== position) {
        this.fail(
          `tensor "${name}" begins at byte ${begin - dataBegin} of the data, but the tensor before it ends at ` +
            `${position - dataBegin}; tensors must follow each other without overlaps or holes`,
        );
      }
      position = end;
    }
    if (position !== fileBytes) {
      const cut = fileBytes < position ? "; the file was cut short: copy or download it again" : "";
      this.fail(`has ${fileBytes - dataBegin} bytes of data, but its tensors need exactly ${position - dataBegin}${cut}`);
    }
    return new Map(entries);
  }

  private checkedEntry(name: string, value: JsonValue, dataBegin: number): Entry {
    if (!isObject(value)) this.fail(`tensor "${name}" must be an object with dtype, shape and data_offsets`);
    const { dtype, shape, data_offsets: offsets } = value;
    if (!isSafetensorsDtype(dtype)) {
      this.fail(`tensor "${name}" has unknown dtype ${JSON.stringify(dtype)}; known are ${Object.keys(bitsOfDtype).join(", ")}`);
    }
    if (!isCountList(shape)) this.fail(`tensor "${name}" must have a shape of whole numbers from 0, not ${JSON.stringify(shape)}`);
    if (!isCountList(offsets) || offsets.length !== 2 || (offsets[0] as number) > (offsets[1] as number)) {
      this.fail(`tensor "${name}" must have data_offsets [begin, end] with begin <= end, not ${JSON.stringify(offsets)}`);
    }
    const [begin, end] = offsets as [number, number];
    const bits = shape.reduce((product, extent) => product * extent, bitsOfDtype[dtype]);
    if (!Number.isSafeInteger(bits)) this.fail(`tensor "${name}" of shape (${shape.join(", ")}) is larger than any file can be`);
    if (bits !== (end - begin) * 8) {
      this.fail(`tensor "${name}" of ${dtype} (${shape.join(", ")}) needs ${bits / 8} bytes, but its data_offsets span ${end - begin}`);
    }
    return { dtype, shape, begin: dataBegin + begin, end: dataBegin + end };
  }

  private fail(problem: string): never {
    // Names and shapes in the sentence come from the file and may be megabytes long.
    throw new UsmLiteError("BAD_CHECKPOINT", `${this.path} ${problem.length > 500 ? `${problem.slice(0, 500)}...` : problem}`);
  }
}

const isObject = (value: JsonValue): value is JsonObject => typeof value === "object" && value !== null && !Array.isArray(value);

const isCountList = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);

function allocate(bytes: number, path: string): Uint8Array {
  try {
    return new Uint8Array(bytes);
  } catch (error) {
    throw new UsmLiteError("OUT_OF_MEMORY", `${path}: no room for ${bytes} bytes at once`, { cause: error });
  }
}
