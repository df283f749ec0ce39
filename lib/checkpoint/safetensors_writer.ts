/** Writing safetensors, in the order and alignment of the reference library. safetensors.ts describes the format. */
import { UsmLiteError } from "../errors.js";
import { Tensor } from "../tensor/tensor.js";
import { writeFileAtomically } from "./atomic_file.js";
import { bitsOfDtype, compareDtypes, dtypeOfTensor, type SafetensorsDtype } from "./safetensors_dtype.js";

/** Of the length of the header, with which a file begins. */
export const LENGTH_BYTES = 8;
/** What the header calls what is no tensor. */
export const METADATA = "__metadata__";

/** What {@link writeSafetensors} stores under one name: a tensor of ours, or raw bytes of any dtype. */
export type SafetensorsEntry = Tensor | { dtype: SafetensorsDtype; shape: readonly number[]; data: ArrayBufferView };

/**
 * Writes a safetensors file, whole or not at all. Like the reference library it puts wide element types first (so that
 * every tensor is aligned) and orders names within a type.
 * @throws UsmLiteError INVALID_ARGUMENT when data does not fit its shape; FILE_UNWRITABLE
 *
 * @example
 * writeSafetensors("weights.safetensors", [["weight", Tensor.zeros([2, 3])]]);
 */
export function writeSafetensors(
  path: string,
  entries: Iterable<readonly [name: string, entry: SafetensorsEntry]>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const ordered = inFileOrder(
    Array.from(entries, ([name, entry]) => ({ name, entry, dtype: entry instanceof Tensor ? dtypeOfTensor[entry.dtype] : entry.dtype })),
  );
  const header = safetensorsHeader(
    path,
    ordered.map(({ name, entry, dtype }): HeaderEntry => {
      const bytes = entry.shape.reduce((product, extent) => product * extent, bitsOfDtype[dtype]) / 8;
      if (!(entry instanceof Tensor) && entry.data.byteLength !== bytes) {
        throw new UsmLiteError(
          "INVALID_ARGUMENT",
          `${path}: tensor "${name}" of ${dtype} (${entry.shape.join(", ")}) needs ${bytes} bytes, got ${entry.data.byteLength}`,
        );
      }
      return { name, dtype, shape: entry.shape, bytes };
    }),
    metadata,
  );
  writeFileAtomically(path, (append) => {
    append(header);
    for (const { entry } of ordered) {
      const data: ArrayBufferView = entry instanceof Tensor ? entry.toArray() : entry.data;
      append(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  });
}

/** The order in which {@link writeSafetensors} puts tensors. */
export const inFileOrder = <Named extends { readonly name: string; readonly dtype: SafetensorsDtype }>(entries: readonly Named[]): Named[] =>
  [...entries].sort((a, b) => compareDtypes(a.dtype, b.dtype) || compareText(a.name, b.name));

/** A tensor as the header names it. */
export interface HeaderEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly bytes: number;
}

/**
 * The bytes before the data of tensors that follow each other in this order.
 * @param path for messages
 * @throws UsmLiteError INVALID_ARGUMENT for a name that is used twice or reserved
 */
export function safetensorsHeader(path: string, entries: readonly HeaderEntry[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const header: [string, unknown][] = Object.keys(metadata).length > 0 ? [[METADATA, metadata]] : [];
  const names = new Set<string>([METADATA]);
  let position = 0;
  for (const { name, dtype, shape, bytes } of entries) {
    if (names.has(name)) throw new UsmLiteError("INVALID_ARGUMENT", `${path}: the tensor name "${name}" is used twice or reserved`);
    names.add(name);
    header.push([name, { dtype, shape, data_offsets: [position, position + bytes] }]);
    position += bytes;
  }
  const text = Buffer.from(JSON.stringify(Object.fromEntries(header)), "utf8");
  const length = Math.ceil(text.length / 8) * 8; // the data begins at a multiple of eight
  const bytes = Buffer.alloc(LENGTH_BYTES + length, " ");
  bytes.writeBigUInt64LE(BigInt(length));
  bytes.set(text, LENGTH_BYTES);
  return bytes;
}

// By code unit, independent of the locale.
const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
