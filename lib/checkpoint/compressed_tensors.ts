/**
 * Weights in the layout of the compressed-tensors library, which vLLM and transformers read: dense whole numbers with a scale for each output
 * channel or group of inputs, `pack-quantized` (codes in a bit stream of 32-bit words) or `int-quantized` (a byte each).
 */
import { z } from "zod";
import { UsmLiteError } from "../errors.js";
import { Tensor, type TensorValues } from "../tensor/tensor.js";
import type { ActivationCoding } from "../quant/activation_coding.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import { checkedValue } from "./checked_value.js";
import type { SafetensorsDtype } from "./safetensors_dtype.js";
import type { TensorFile } from "./tensor_file.js";

/** Layouts of compressed-tensors that are read and written. */
export const compressedTensorsFormats = ["pack-quantized", "int-quantized"] as const;

/** `pack-quantized`: codes in a bit stream of 32-bit words; `int-quantized`: codes of eight bits, a signed byte each. */
export type CompressedTensorsFormat = (typeof compressedTensorsFormats)[number];

const weightsSchema = z.looseObject({
  num_bits: z.number().int().min(2).max(8),
  type: z.literal("int").default("int"),
  symmetric: z.literal(true).default(true),
  strategy: z.enum(["tensor", "channel", "group"]),
  group_size: z.number().int().nullish(),
  dynamic: z.literal(false).default(false),
  actorder: z.null().optional(),
});

const sectionSchema = z.looseObject({
  quant_method: z.literal("compressed-tensors"),
  format: z.enum(compressedTensorsFormats),
  config_groups: z.record(
    z.string(),
    z.looseObject({ targets: z.array(z.string()), weights: weightsSchema, input_activations: z.unknown() }),
  ),
  kv_cache_scheme: z.null().optional(),
  sparsity_config: z
    .looseObject({ format: z.literal("dense") })
    .partial()
    .nullish(),
});

/** What `quantization_config` says of one kind of weight. */
export interface IntegerWeights {
  readonly bits: number;
  readonly packed: boolean;
  /** Inputs that share a scale; absent: all of an output channel, or of the weight. */
  readonly groupSize: number | undefined;
}

/**
 * How the weights of a checkpoint are quantized; undefined where `config.json` has no `quantization_config`. All groups must be of one kind:
 * which weights are quantized is told by the tensors that are there.
 * @throws UsmLiteError BAD_CONFIG naming the key that cannot be honoured
 */
export function integerWeightsOf(config: Readonly<Record<string, unknown>>, source: string): IntegerWeights | undefined {
  const section = config["quantization_config"];
  if (section === undefined || section === null) return undefined;
  const { format, config_groups } = checkedValue(sectionSchema, section, { source, code: "BAD_CONFIG", key: "quantization_config" });
  const kinds = Object.values(config_groups).map(({ weights: { num_bits, strategy, group_size } }) => ({
    bits: num_bits,
    groupSize: strategy === "group" && group_size && group_size > 0 ? group_size : undefined,
  }));
  const [kind] = kinds;
  if (!kind || kinds.some(({ bits, groupSize }) => bits !== kind.bits || groupSize !== kind.groupSize)) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: key "quantization_config.config_groups" must give all weights one number of bits and one group size`,
    );
  }
  return { ...kind, packed: format === "pack-quantized" };
}

const suffixes = ["weight_packed", "weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx"] as const;

/** Presents quantized weights as float32 tensors `NAME.weight`; other tensors as they are. */
export class DequantizedTensors implements TensorFile {
  private readonly quantized = new Set<string>();

  /** @throws UsmLiteError BAD_CHECKPOINT for zero points or a reordering of inputs, which are not supported */
  constructor(
    private readonly file: TensorFile,
    private readonly weights: IntegerWeights,
  ) {
    for (const scale of file.names().filter((name) => name.endsWith(".weight_scale"))) {
      const module = scale.slice(0, -".weight_scale".length);
      const unsupported = ["weight_zero_point", "weight_g_idx"].find((suffix) => file.has(`${module}.${suffix}`));
      if (unsupported)
        this.fail(`has "${module}.${unsupported}", which is not supported: only symmetric quantization in the order of inputs is`);
      const codes = weights.packed ? ["weight_packed", "weight_shape"] : ["weight"];
      const missing = codes.find((suffix) => !file.has(`${module}.${suffix}`));
      if (missing) this.fail(`has "${scale}" but no "${module}.${missing}"`);
      this.quantized.add(`${module}.weight`);
    }
  }

  get path(): string {
    return this.file.path;
  }

  names(): string[] {
    const parts = new Set([...this.quantized].flatMap((name) => suffixes.map((suffix) => name.replace(/weight$/, suffix))));
    return [...new Set([...this.file.names().filter((name) => !parts.has(name)), ...this.quantized])];
  }

  has(name: string): boolean {
    return this.quantized.has(name) || this.file.has(name);
  }

  shape(name: string): readonly number[] {
    return this.quantized.has(name) && this.weights.packed ? [...this.file.values(`${name}_shape`)] : this.file.shape(name);
  }

  dtype(name: string): SafetensorsDtype {
    return this.quantized.has(name) ? "F32" : this.file.dtype(name);
  }

  byteLength(name: string): number {
    return this.quantized.has(name) ? this.shape(name).reduce((product, extent) => product * extent, 4) : this.file.byteLength(name);
  }

  bytes(name: string): Uint8Array {
    if (!this.quantized.has(name)) return this.file.bytes(name);
    const { buffer, byteOffset, byteLength } = this.dequantized(name);
    return new Uint8Array(buffer, byteOffset, byteLength);
  }

  tensor(name: string): Tensor {
    return this.quantized.has(name) ? Tensor.from(this.dequantized(name), this.shape(name)) : this.file.tensor(name);
  }

  values(name: string): TensorValues {
    return this.quantized.has(name) ? this.dequantized(name) : this.file.values(name);
  }

  close(): void {
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private dequantized(name: string): Float32Array {
    const [rows, columns, ...others] = this.shape(name);
    if (rows === undefined || columns === undefined || others.some((extent) => extent !== 1))
      this.fail(`"${name}" of shape (${this.shape(name).join(", ")}) is no matrix`);
    const [out, width] = [rows as number, columns as number];
    const scales = this.file.values(`${name}_scale`);
    const scaleRows = scales.length === 1 ? 1 : out;
    const perRow = scales.length / scaleRows;
    // The last group may be smaller.
    const group = this.weights.groupSize ?? width;
    if (!(scales instanceof Float32Array) || Math.ceil(width / group) !== perRow) {
      this.fail(
        `"${name}_scale" of shape (${this.file.shape(`${name}_scale`).join(", ")}) does not fit a weight of shape (${out}, ${width})`,
      );
    }
    const codes = this.weights.packed ? this.unpackedCodes(name, out, width) : this.byteCodes(name);
    const values = new Float32Array(out * width);
    for (let row = 0; row < out; row++) {
      for (let column = 0; column < width; column++) {
        const scale = scales[(scaleRows === 1 ? 0 : row * perRow) + Math.floor(column / group)] as number;
        values[row * width + column] = (codes[row * width + column] as number) * scale;
      }
    }
    return values;
  }

  private byteCodes(name: string): Int8Array {
    const codes = this.file.values(name);
    return codes instanceof Int8Array ? codes : this.fail(`"${name}" has dtype ${this.file.dtype(name)}; int-quantized weights are I8`);
  }

  /** Each row is a little-endian bit stream of `code + 2^(bits - 1)`, filled up to whole words. */
  private unpackedCodes(name: string, rows: number, columns: number): Int8Array {
    const { bits } = this.weights;
    const words = Math.ceil((columns * bits) / 32);
    const packed = this.file.values(`${name}_packed`);
    if (packed.length !== rows * words)
      this.fail(`"${name}_packed" of shape (${this.file.shape(`${name}_packed`).join(", ")}) must be (${rows}, ${words})`);
    const codes = new Int8Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const bit = column * bits;
        const at = row * words + (bit >> 5);
        const low = (packed[at] as number) >>> (bit & 31);
        const high = (bit & 31) + bits > 32 ? (packed[at + 1] as number) << (32 - (bit & 31)) : 0;
        codes[row * columns + column] = ((low | high) & ((1 << bits) - 1)) - (1 << (bits - 1));
      }
    }
    return codes;
  }

  private fail(problem: string): never {
    throw new UsmLiteError("BAD_CHECKPOINT", `${this.file.path} ${problem}`);
  }
}

/** What {@link quantizationConfig} is to say. */
export interface Announcement {
  /** Shape of a weight in the checkpoint. */
  readonly shapeOf: (name: string) => readonly number[];
  /** The layout that was asked for; absent: `pack-quantized` where it fits. */
  readonly format?: CompressedTensorsFormat | undefined;
  /** What weights are multiplied by where that is not `int8`, by name. */
  readonly activations?: ReadonlyMap<string, ActivationCoding> | undefined;
}

/**
 * The `quantization_config` that lets other programs read weights packed by `specs`; undefined when they could not and no layout was asked
 * for: theirs has dense whole numbers of linear layers only, all of one kind. `int-quantized` means to them that inputs are rounded too, so
 * it says how; `pack-quantized` that they are not.
 * @throws UsmLiteError UNSUPPORTED_SPEC naming a weight that `format` cannot hold
 */
export function quantizationConfig(
  specs: ReadonlyMap<string, WeightSpec>,
  { shapeOf, format, activations }: Announcement,
): object | undefined {
  if (format) checkFormat(specs, { shapeOf, format });
  const [spec] = specs.values();
  if (!spec || misfit(specs, { shapeOf, format: "pack-quantized" }) !== undefined) return undefined;
  const weights = {
    num_bits: spec.bits,
    type: "int",
    symmetric: true,
    strategy: spec.groupSize ? "group" : "channel",
    group_size: spec.groupSize ?? null,
    dynamic: false,
  };
  const targets = new Map<ActivationCoding, string[]>();
  for (const name of specs.keys()) {
    const coding = format === "int-quantized" ? (activations?.get(name) ?? "int8") : "float32";
    targets.set(coding, [...(targets.get(coding) ?? []), name.replace(/\.weight$/, "")]);
  }
  const groups = [...targets].map(([coding, modules], index) => [
    `group_${index}`,
    { targets: modules, weights, input_activations: inputActivations(coding), output_activations: null },
  ]);
  return {
    quant_method: "compressed-tensors",
    format: format ?? "pack-quantized",
    quantization_status: "compressed",
    config_groups: Object.fromEntries(groups) as object,
    ignore: [],
    kv_cache_scheme: null,
  };
}

/** Each row of inputs has a scale of its own, found when it is there. */
function inputActivations(coding: ActivationCoding): object | null {
  if (coding === "float32") return null;
  return { num_bits: coding === "int4" ? 4 : 8, type: "int", symmetric: coding !== "int8-asymmetric", strategy: "token", dynamic: true };
}

type AskedFormat = Pick<Announcement, "shapeOf"> & { readonly format: CompressedTensorsFormat };

/** @throws UsmLiteError UNSUPPORTED_SPEC naming a weight that `format` cannot hold */
export function checkFormat(specs: ReadonlyMap<string, WeightSpec>, asked: AskedFormat): void {
  const problem = misfit(specs, asked);
  if (problem === undefined) return;
  const held = asked.format === "int-quantized" ? "dense int8" : "dense int2 to int8";
  throw new UsmLiteError(
    "UNSUPPORTED_SPEC",
    `${asked.format} holds linear layers of one ${held} spec, but ${problem}; change the recipe, or ask for no format to have the layout of docs/format.md`,
  );
}

/** What is wrong with the first weight that the layout cannot hold. */
function misfit(specs: ReadonlyMap<string, WeightSpec>, { shapeOf, format }: AskedFormat): string | undefined {
  const [first] = specs;
  for (const [name, spec] of specs) {
    if (spec.sparsity || spec.doubleQuantized || !(format === "int-quantized" ? /^int8$/ : /^int[2-8]$/).test(spec.format))
      return `"${name}" is ${spec.text}`;
    if (shapeOf(name).length !== 2) return `"${name}" is a convolution`;
    if (first && spec.text !== first[1].text) return `"${first[0]}" is ${first[1].text} and "${name}" ${spec.text}`;
  }
  return undefined;
}
