/** The `usm_lite` section of config.json: which weights are packed, and how. */
import { z } from "zod";
import { UsmLiteError } from "../errors.js";
import { parseWeightSpec, type WeightSpec } from "../quant/weight_spec.js";

/** Version of the packed layout (docs/format.md). A reader refuses newer ones. */
export const formatVersion = 1;

/** How the weights of a model are coded. */
export interface Compression {
  /** Spec of each packed weight, by checkpoint name. */
  readonly specs: ReadonlyMap<string, WeightSpec>;
}

const schema = z.strictObject({
  format_version: z.number().int(),
  /** Weight names by spec, so that a layer's spec is read off without decoding anything. */
  weights: z.record(z.string(), z.array(z.string())),
});

/** @throws UsmLiteError BAD_CONFIG, or UNSUPPORTED_SPEC, naming `source` */
export function readCompression(config: Readonly<Record<string, unknown>>, source: string): Compression {
  const section = config["usm_lite"];
  if (section === undefined) return { specs: new Map() };
  const result = schema.safeParse(section);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new UsmLiteError("BAD_CONFIG", `${source}: key "usm_lite.${issue?.path.join(".")}": ${issue?.message}`);
  }
  if (result.data.format_version !== formatVersion) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: usm_lite.format_version is ${result.data.format_version}; this version reads ${formatVersion}`,
    );
  }
  const specs = new Map<string, WeightSpec>();
  for (const [text, names] of Object.entries(result.data.weights)) {
    const spec = parseWeightSpec(text);
    for (const name of names) {
      if (specs.has(name)) throw new UsmLiteError("BAD_CONFIG", `${source}: weight "${name}" has two specs in usm_lite.weights`);
      specs.set(name, spec);
    }
  }
  return { specs };
}

/** The section to write for weights coded as `specs` says. */
export function compressionSection(specs: ReadonlyMap<string, WeightSpec>): z.infer<typeof schema> {
  const weights: Record<string, string[]> = {};
  for (const [name, spec] of specs) (weights[spec.text] ??= []).push(name);
  return { format_version: formatVersion, weights };
}
