/** A checkpoint of which another file replaces some tensors. */
import { basename } from "node:path";
import type { Tensor, TensorValues } from "../tensor/tensor.js";
import type { SafetensorsDtype } from "./safetensors_dtype.js";
import type { TensorFile } from "./tensor_file.js";

export class ReplacedTensors implements TensorFile {
  /** Owns both files. */
  constructor(
    private readonly file: TensorFile,
    private readonly replacement: TensorFile,
  ) {}

  /** Of both: what is wrong may be in either. */
  get path(): string {
    return `${this.file.path} with ${basename(this.replacement.path)}`;
  }

  names(): string[] {
    return [...new Set([...this.file.names(), ...this.replacement.names()])];
  }

  has(name: string): boolean {
    return this.file.has(name) || this.replacement.has(name);
  }

  shape(name: string): readonly number[] {
    return this.holding(name).shape(name);
  }

  dtype(name: string): SafetensorsDtype {
    return this.holding(name).dtype(name);
  }

  byteLength(name: string): number {
    return this.holding(name).byteLength(name);
  }

  bytes(name: string): Uint8Array {
    return this.holding(name).bytes(name);
  }

  tensor(name: string): Tensor {
    return this.holding(name).tensor(name);
  }

  values(name: string): TensorValues {
    return this.holding(name).values(name);
  }

  close(): void {
    this.file.close();
    this.replacement.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private holding(name: string): TensorFile {
    return this.replacement.has(name) ? this.replacement : this.file;
  }
}
