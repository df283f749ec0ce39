/** Weights read from a safetensors checkpoint, float or packed. */
import { hasByteCodes, packedShape, packedTensorNames, readPackedWeight } from "../checkpoint/packed_weights.js";
import type { TensorFile } from "../checkpoint/tensor_file.js";
import { DeviceWeight, type DeviceWeightOptions } from "../device/device_weight.js";
import { UsmLiteError } from "../errors.js";
import { checkShape, type MatrixWeight, type WeightSource } from "../nn/weight_source.js";
import type { ActivationCoding } from "../quant/activation_coding.js";
import { PackedMatrix } from "../quant/packed_matrix.js";
import { unpackWeight } from "../quant/packed_weight.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";

/** Whether packed weights are multiplied as they are, or turned into float32 first (to compare, or to train on). */
export type WeightForm = "packed" | "float32";

// Written by torch for every batch normalization; nothing depends on it.
const ignored = /\.num_batches_tracked$/;

// In front of the names of weights on the GPU, whose numbers are others.
const gpuPrefix = "cuda ";

/** Numbers of packed weights, on the CPU or the GPU, that workers of one process share, by checkpoint name. */
export type SharedMatrices = Readonly<Record<string, number>>;

export class CheckpointWeights implements WeightSource {
  private readonly used = new Set<string>();
  private none: Tensor | undefined;
  /** The packed weights given so far, by checkpoint name. */
  private readonly matrices = new Map<string, PackedMatrix | DeviceWeight>();
  /** Shapes of the weights given to linear layers so far, packed or not, by checkpoint name. */
  readonly linearShapes = new Map<string, readonly number[]>();

  /**
   * @param specs spec of each packed weight, by checkpoint name
   * @param options.shared packed weights that another worker holds ({@link PackedMatrix.share}), by checkpoint name
   * @param options.onGpu names of the packed weights that go to the GPU
   * @param options.arithmetic what those on the GPU are multiplied in
   * @param options.activations what packed weights are multiplied by where that is not `int8`
   */
  constructor(
    private readonly file: TensorFile,
    private readonly specs: ReadonlyMap<string, WeightSpec>,
    private readonly form: WeightForm | "shapes",
    private readonly options: {
      readonly shared?: SharedMatrices;
      readonly onGpu?: RegExp;
      readonly arithmetic?: "bfloat16" | "int8";
      readonly activations?: ReadonlyMap<string, ActivationCoding>;
    } = {},
  ) {}

  tensor(name: string, shape: readonly number[]): Tensor {
    const spec = this.specs.get(name);
    if (spec && (!this.file.has(name) || hasByteCodes(this.file, name))) return this.unpacked(name, shape, spec);
    this.used.add(name);
    if (!this.file.has(name)) throw this.missing(name);
    checkShape(this.file.path, name, this.file.shape(name), shape);
    if (this.form === "shapes") return this.placeholder;
    const values = this.file.values(name);
    if (!(values instanceof Float32Array)) {
      throw new UsmLiteError(
        "BAD_CHECKPOINT",
        `${this.file.path}: tensor "${name}" has dtype ${this.file.dtype(name)}; weights must be F32, F16 or BF16`,
      );
    }
    this.checkFinite(name, values);
    return keep(Tensor.from(values, this.file.shape(name)));
  }

  /** A model with one NaN hears nothing, or nonsense, and would not say so. */
  private checkFinite(name: string, values: Float32Array): void {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += 0 * (values[i] as number); // NaN as soon as one of them is NaN or infinite
    if (sum === 0) return;
    const at = values.findIndex((value) => !Number.isFinite(value));
    throw new UsmLiteError(
      "BAD_CHECKPOINT",
      `${this.file.path}: value ${at} of tensor "${name}" is ${values[at]}; weights must be finite numbers`,
    );
  }

  matrix(name: string, shape: readonly number[]): MatrixWeight {
    this.linearShapes.set(name, shape);
    const spec = this.specs.get(name);
    if (!spec) return this.tensor(name, shape);
    for (const part of [...packedTensorNames(this.file, name, spec), `${name}_shape`]) this.used.add(part);
    checkShape(this.file.path, name, packedShape(this.file, name), shape);
    if (this.form === "shapes") return this.placeholder;
    const matrix = this.sharedMatrix(name) ?? this.readMatrix(name, spec);
    if (!(matrix instanceof Tensor)) this.matrices.set(name, matrix);
    return matrix;
  }

  /** A packed weight as float32, for what looks rows up in it. */
  private unpacked(name: string, shape: readonly number[], spec: WeightSpec): Tensor {
    for (const part of [...packedTensorNames(this.file, name, spec), `${name}_shape`]) this.used.add(part);
    checkShape(this.file.path, name, packedShape(this.file, name), shape);
    return this.form === "shapes" ? this.placeholder : (this.readMatrix(name, spec, "float32") as Tensor);
  }

  private get placeholder(): Tensor {
    return (this.none ??= keep(Tensor.zeros([0])));
  }

  private sharedMatrix(name: string): PackedMatrix | DeviceWeight | undefined {
    const { onGpu, shared = {}, activations } = this.options;
    const placed = onGpu?.test(name) ?? false;
    const id = shared[placed ? gpuPrefix + name : name];
    if (id === undefined) return undefined;
    return placed ? DeviceWeight.fromShared(id) : PackedMatrix.fromShared(id, activations?.get(name));
  }

  private readMatrix(name: string, spec: WeightSpec, form = this.form): MatrixWeight {
    return tidy(() => {
      const packed = readPackedWeight(this.file, name, spec);
      try {
        if (form !== "packed") return keep(unpackWeight(packed).weight);
        const activations = this.options.activations?.get(name);
        if (!this.options.onGpu?.test(name)) return PackedMatrix.from(packed, activations);
        return DeviceWeight.from(packed, arithmeticOnGpu(spec, activations, this.options.arithmetic));
      } catch (cause) {
        if (!(cause instanceof UsmLiteError)) throw cause;
        // What the codec calls a wrong argument came from the file.
        const code = cause.code === "INVALID_ARGUMENT" ? "BAD_CHECKPOINT" : cause.code;
        throw new UsmLiteError(code, `${this.file.path}: packed weight "${name}": ${cause.message}`, { cause });
      }
    });
  }

  /** Makes the packed weights given so far available to other workers of this process. */
  share(): SharedMatrices {
    return Object.fromEntries(
      [...this.matrices].map(([name, matrix]) => [matrix instanceof PackedMatrix ? name : gpuPrefix + name, matrix.share()]),
    );
  }

  /** Gives the memory of the packed weights back: for a model that nobody gets. */
  disposeMatrices(): void {
    for (const matrix of this.matrices.values()) matrix.dispose();
    this.matrices.clear();
  }

  has(name: string): boolean {
    return this.file.has(name) || this.specs.has(name);
  }

  /**
   * @param unused names of tensors that may be there for nothing
   * @throws UsmLiteError BAD_CHECKPOINT when file or specs name tensors that the model has no place for
   */
  checkAllUsed(unused?: RegExp): void {
    const unpackable = [...this.specs.keys()].find((name) => !this.used.has(`${name}_shape`));
    if (unpackable !== undefined) {
      throw new UsmLiteError(
        "BAD_CHECKPOINT",
        `${this.file.path}: config.json gives "${unpackable}" a weight spec, but the model has no linear weight of that name`,
      );
    }
    const unexpected = this.file.names().filter((name) => !this.used.has(name) && !ignored.test(name) && !unused?.test(name));
    if (unexpected.length === 0) return;
    throw new UsmLiteError(
      "BAD_CHECKPOINT",
      `${this.file.path}: ${unexpected.length} tensors have no place in the model that config.json describes, ` +
        `the first is "${unexpected[0]}"`,
    );
  }

  private missing(name: string): UsmLiteError {
    return new UsmLiteError("BAD_CHECKPOINT", `${this.file.path} has no tensor "${name}", which config.json asks for`);
  }
}

/** int8 where it is wanted and weights are whole numbers, unless the model is to multiply them in floats. */
function arithmeticOnGpu(
  { format }: WeightSpec,
  activations: ActivationCoding = "int8",
  wanted: "bfloat16" | "int8" = "bfloat16",
): DeviceWeightOptions {
  return wanted === "int8" && format !== "float32" && activations !== "float32" ? { arithmetic: "int8", activations } : {};
}
