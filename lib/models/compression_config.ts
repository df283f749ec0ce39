/** The `usm_lite` section of config.json: which weights are packed, and how. */
import { z } from "zod";
import { checkedValue } from "../checkpoint/checked_value.js";
import { UsmLiteError } from "../errors.js";
import { activationCodings, type ActivationCoding } from "../quant/activation_coding.js";
import { parseWeightSpec, type WeightSpec } from "../quant/weight_spec.js";

/** Version of the packed layout (docs/format.md). A reader refuses newer ones. */
const formatVersion = 1;

/** How the weights of a model are coded. */
export interface Compression {
  /** Spec of each packed weight, by checkpoint name. */
  readonly specs: ReadonlyMap<string, WeightSpec>;
  /** What packed weights are multiplied by where that is not `int8`, by checkpoint name. */
  readonly activations?: ReadonlyMap<string, ActivationCoding>;
}

// Read first: a newer version may have other keys, and it is the version that must be named then.
const versionSchema = z.looseObject({ format_version: z.number().int() });

const schema = z.strictObject({
  format_version: z.number().int(),
  /** Weight names by spec, so that a layer's spec is read off without decoding anything. */
  weights: z.record(z.string(), z.array(z.string())),
  /** Names of weights that are not multiplied by activations in eight bits, by what they are multiplied by. */
  activations: z.partialRecord(z.enum(activationCodings), z.array(z.string())).optional(),
});

/** @throws UsmLiteError BAD_CONFIG, or UNSUPPORTED_SPEC, naming `source` */
export function readCompression(config: Readonly<Record<string, unknown>>, source: string): Compression {
  const section = config["usm_lite"];
  if (section === undefined) return { specs: new Map() };
  const version = checkedValue(versionSchema, section, { source, code: "BAD_CONFIG", key: "usm_lite" }).format_version;
  if (version !== formatVersion) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: key "usm_lite.format_version" is ${version}; this version of usm-lite reads ${formatVersion}`,
    );
  }
  const { weights, activations = {} } = checkedValue(schema, section, { source, code: "BAD_CONFIG", key: "usm_lite" });
  const specs = new Map<string, WeightSpec>();
  for (const [text, names] of Object.entries(weights)) {
    const spec = specOf(text, source);
    for (const name of names) {
      if (specs.has(name)) throw new UsmLiteError("BAD_CONFIG", `${source}: weight "${name}" has two specs in usm_lite.weights`);
      specs.set(name, spec);
    }
  }
  return { specs, activations: activationsOf(activations, specs, source) };
}

function activationsOf(
  names: Partial<Record<ActivationCoding, string[]>>,
  specs: ReadonlyMap<string, WeightSpec>,
  source: string,
): ReadonlyMap<string, ActivationCoding> {
  const codings = new Map(
    Object.entries(names).flatMap(([coding, weights]) => weights.map((name) => [name, coding as ActivationCoding] as const)),
  );
  const stranger = [...codings.keys()].find((name) => !specs.has(name));
  if (stranger === undefined) return codings;
  throw new UsmLiteError("BAD_CONFIG", `${source}: key "usm_lite.activations" names "${stranger}", which has no spec in usm_lite.weights`);
}

function specOf(text: string, source: string): WeightSpec {
  try {
    return parseWeightSpec(text);
  } catch (cause) {
    throw new UsmLiteError("UNSUPPORTED_SPEC", `${source}: key "usm_lite.weights": ${(cause as Error).message}`, { cause });
  }
}

/** The section to write for weights coded as `specs` says and multiplied by what `activations` says. */
export function compressionSection(
  specs: ReadonlyMap<string, WeightSpec>,
  activations: ReadonlyMap<string, ActivationCoding> = new Map(),
): z.infer<typeof schema> {
  const weights: Record<string, string[]> = {};
  for (const [name, spec] of specs) (weights[spec.text] ??= []).push(name);
  const others: Partial<Record<ActivationCoding, string[]>> = {};
  for (const [name, coding] of activations) if (coding !== "int8") (others[coding] ??= []).push(name);
  return { format_version: formatVersion, weights, ...(Object.keys(others).length > 0 ? { activations: others } : {}) };
}
