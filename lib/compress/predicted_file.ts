/** The tensors of the file that compressing writes, without a value of them. */
import type { CompressedTensorsFormat } from "../checkpoint/compressed_tensors.js";
import { packedOutline } from "../checkpoint/packed_weights.js";
import { compareDtypes } from "../checkpoint/safetensors_dtype.js";
import { inFileOrder, safetensorsHeader, type HeaderEntry } from "../checkpoint/safetensors_writer.js";
import type { TensorFile } from "../checkpoint/tensor_file.js";
import type { SpeechNetwork } from "../models/speech_network.js";
import type { CompressionPlan } from "./compression_plan.js";
import { weightsMetadata } from "./export.js";

export interface PredictedFile {
  /** All of its bytes, the header's included. */
  readonly bytes: number;
  /** Values of its tensors, each weight counted as what it is before it is packed. */
  readonly parameters: number;
  /** Bytes of each weight: codes, masks and scales, or floats. */
  readonly bytesOf: ReadonlyMap<string, number>;
}

export interface Prediction {
  readonly file: TensorFile;
  readonly network: SpeechNetwork;
  readonly plan: CompressionPlan;
  readonly format: CompressedTensorsFormat | undefined;
  /** Whether no modifier hears speech: weights are then packed one by one, and what is not packed keeps its bytes. */
  readonly inOneShot: boolean;
}

/** What `exportInOneShot`, or else `exportModel`, will write. */
export function predictFile({ file, network, plan, format, inOneShot }: Prediction): PredictedFile {
  // A network that has been trained holds float32, and nothing that it does not use.
  const names = inOneShot ? file.names() : [...network.buffers().keys(), ...network.parameters().keys()];
  const float = (name: string): HeaderEntry => {
    const shape = file.shape(name);
    return inOneShot
      ? { name, shape, dtype: file.dtype(name), bytes: file.byteLength(name) }
      : { name, shape, dtype: "F32", bytes: 4 * product(shape) };
  };
  const outlines = new Map(
    names.map((name) => {
      const spec = plan.get(name);
      return [name, spec ? packedOutline(name, file.shape(name), spec, format) : [float(name)]] as const;
    }),
  );
  const entries = [...outlines.values()].flat();
  const ordered = inOneShot ? [...entries].sort((a, b) => compareDtypes(a.dtype, b.dtype)) : inFileOrder(entries);
  const header = safetensorsHeader(file.path, ordered, weightsMetadata);
  return {
    bytes: header.length + entries.reduce((sum, { bytes }) => sum + bytes, 0),
    parameters: names.reduce((sum, name) => sum + product(file.shape(name)), 0),
    bytesOf: new Map(
      [...outlines].map(([name, parts]) => [
        name,
        parts.reduce((sum, part) => sum + (part.name === `${name}_shape` ? 0 : part.bytes), 0), // the shape costs no bits of weights
      ]),
    ),
  };
}

const product = (shape: readonly number[]): number => shape.reduce((result, extent) => result * extent, 1);
