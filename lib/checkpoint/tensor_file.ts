/** Named tensors on disk: one safetensors file, or several that an index puts together. */
import type { Tensor, TensorValues } from "../tensor/tensor.js";
import type { SafetensorsDtype } from "./safetensors_dtype.js";

/** What readers of checkpoints need; see {@link SafetensorsFile} for each member. */
export interface TensorFile extends Disposable {
  readonly path: string;
  names(): string[];
  has(name: string): boolean;
  shape(name: string): readonly number[];
  dtype(name: string): SafetensorsDtype;
  byteLength(name: string): number;
  bytes(name: string): Uint8Array;
  tensor(name: string): Tensor;
  values(name: string): TensorValues;
  close(): void;
}
