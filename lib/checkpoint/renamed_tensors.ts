/** A checkpoint whose tensors have older names than those that the network asks for. */
import { UsmLiteError } from "../errors.js";
import type { Tensor, TensorValues } from "../tensor/tensor.js";
import type { SafetensorsDtype } from "./safetensors_dtype.js";
import type { TensorFile } from "./tensor_file.js";

export class RenamedTensors implements TensorFile {
  /** Name in the file, by name. */
  private readonly stored = new Map<string, string>();

  /**
   * @param rename gives the name that the network asks for
   * @throws UsmLiteError BAD_CHECKPOINT when two tensors get the same name
   */
  constructor(
    private readonly file: TensorFile,
    rename: (name: string) => string,
  ) {
    for (const name of file.names()) {
      const renamed = rename(name);
      const other = this.stored.get(renamed);
      if (other !== undefined)
        throw new UsmLiteError("BAD_CHECKPOINT", `${file.path}: tensors "${other}" and "${name}" are the same weight, "${renamed}"`);
      this.stored.set(renamed, name);
    }
  }

  get path(): string {
    return this.file.path;
  }

  names(): string[] {
    return [...this.stored.keys()];
  }

  has(name: string): boolean {
    return this.stored.has(name);
  }

  shape(name: string): readonly number[] {
    return this.file.shape(this.nameOf(name));
  }

  dtype(name: string): SafetensorsDtype {
    return this.file.dtype(this.nameOf(name));
  }

  byteLength(name: string): number {
    return this.file.byteLength(this.nameOf(name));
  }

  bytes(name: string): Uint8Array {
    return this.file.bytes(this.nameOf(name));
  }

  tensor(name: string): Tensor {
    return this.file.tensor(this.nameOf(name));
  }

  values(name: string): TensorValues {
    return this.file.values(this.nameOf(name));
  }

  close(): void {
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  // An unknown name fails in the file, which says so.
  private nameOf(name: string): string {
    return this.stored.get(name) ?? name;
  }
}
