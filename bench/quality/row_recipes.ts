/** Kinds of rows of the quality tables: what each does to the float model, as a recipe. */
import { parseWeightSpec } from "../../lib/quant/weight_spec.js";

/** What all fine-tuned rows have in common. */
export interface Budget {
  readonly steps: number;
  readonly learningRate: number;
  readonly batchSeconds: number;
  readonly seed: number;
  /** Noise, more and wider masks, and averaged weights in rows that do not say otherwise. */
  readonly augment: boolean;
  /** Folder that keeps computed features. */
  readonly features?: string;
}

export interface RowDefinition {
  /** Unique over all tables, which share rows; part of file names. */
  readonly name: string;
  /** What a reader sees. */
  readonly label: string;
  readonly method: "as it is" | "one-shot" | "fine-tuned";
  /** A recipe in the form of its YAML; absent: the float model as it is. */
  readonly recipe?: (budget: Budget) => object;
}

export type Modifier = Readonly<Record<string, unknown>> & { readonly type: string };

// The layers before the blocks, a fourteenth of the weights, are more sensitive: dense, and not below four bits.
const subsampling = { targets: ["encoder.subsampler.conv_*", "encoder.subsampler.dense_1"] };
const subsamplingSpec = (format: string): string => (format === "int8" ? "int8" : "int4");

// As the float model was trained, nearly, and averaged.
export const gentle = {
  emaDecay: 0.98,
  specAugment: { frequencyMaskShare: 0.23, timeMasksPerFrame: 0.025, timeMaskShare: 0.04, maximumTimeMasks: 20 },
  noise: { gainDecibels: 4, noiseProbability: 0.4 },
};

/** Fine-tuning with these modifiers, the subsampling layers in whole numbers where the blocks are coded. */
export function fineTuned(
  name: string,
  label: string,
  modifiers: (budget: Budget) => readonly Modifier[],
  training: object = {},
): RowDefinition {
  return {
    name,
    label,
    method: "fine-tuned",
    recipe: (budget) => {
      const own = modifiers(budget);
      const coded = own.find(({ type }) => type === "quantization");
      const before = coded
        ? [{ ...coded, spec: subsamplingSpec(String(coded["spec"])), scale: "format", learned: false, ...subsampling }]
        : [];
      const { augment, ...rest } = budget;
      return {
        stages: [
          {
            name: "fine-tune",
            modifiers: [...own, ...before],
            training: { ...rest, speedPerturbation: false, ...(augment ? gentle : {}), ...training },
          },
        ],
      };
    },
  };
}

/** Masks computed four times in the first four tenths of the steps, as in the faithful recipe. */
export const fewShot =
  (pattern: string, more: object = {}) =>
  ({ steps }: Budget): Modifier => ({
    type: "sparsity",
    pattern,
    schedule: "few-shot",
    shots: 4,
    interval: Math.max(1, Math.floor(steps / 10)),
    ...more,
  });

/** The faithful method of USM-Lite for a spec. */
export function faithful(spec: string): RowDefinition {
  const { sparsity, format } = parseWeightSpec(spec);
  return fineTuned(`fine-tuned-${spec}`, spec, (budget) => [
    ...(format === "float32" ? [] : [{ type: "quantization", spec: format }]),
    ...(sparsity ? [fewShot(`${sparsity.kept}:${sparsity.of}`)(budget)] : []),
  ]);
}

/** Rounded once, by magnitude: no data. */
export function rounded(spec: string): RowDefinition {
  const { format } = parseWeightSpec(spec);
  const modifiers = [
    { type: "round-to-nearest", spec },
    ...(format === "float32" ? [] : [{ type: "round-to-nearest", spec: subsamplingSpec(format), ...subsampling }]),
  ];
  return {
    name: `rounded-${spec}`,
    label: `${spec}, rounded`,
    method: "one-shot",
    recipe: () => ({ stages: [{ name: "round", modifiers }] }),
  };
}

/** GPTQ, or SparseGPT where weights are pruned, from 256 utterances. */
export function solved(spec: string): RowDefinition {
  const { sparsity, format } = parseWeightSpec(spec);
  const modifiers = [
    ...(format === "float32"
      ? []
      : [
          {
            type: "round-to-nearest",
            spec: subsamplingSpec(format),
            clipSearch: { steps: 15, lowest: 0.5 },
            targets: ["encoder.subsampler.conv_*", "encoder.subsampler.dense_1"],
          },
        ]),
    { type: sparsity ? "sparsegpt" : "gptq", spec },
  ];
  return {
    name: `solved-${spec}`,
    label: `${spec}, ${sparsity ? "SparseGPT" : "GPTQ"}`,
    method: "one-shot",
    recipe: ({ seed }) => ({
      stages: [
        {
          name: "solve",
          modifiers: modifiers.map((one) => (one.type === "round-to-nearest" ? one : { ...one, calibration: { utterances: 256, seed } })),
        },
      ],
    }),
  };
}

export const asItIs: RowDefinition = { name: "float32", label: "float32, as it is", method: "as it is" };
export const search = { clipSearch: { steps: 15, lowest: 0.3 } };
export const teacher: Modifier = { type: "distillation", logits: 1, labels: 1, hidden: 0.3 };
// Slower than the faithful method: a float model that is fine-tuned as fast as there loses two points of word errors by that alone.
export const averaged = { emaDecay: 0.98, learningRate: 1.5e-4 };
export const growing = { gradual: true, gradient: "sr-ste" };

export const int4Search = { type: "quantization", spec: "int4", clipSearch: { steps: 8, lowest: 0.65 } };
// What the float model says, more than the transcripts, which it has heard often enough to know by heart.
export const firmTeacher: Modifier = { ...teacher, labels: 0.2 };

/** Pruned by SparseGPT in one shot, then fine-tuned under its masks. */
export function fromSparseGpt(
  name: string,
  label: string,
  pattern: string,
  quantizer: Modifier | undefined,
  training: object,
): RowDefinition {
  const tuned = fineTuned(name, label, () => [...(quantizer ? [quantizer] : []), firmTeacher], training);
  const solve = (seed: number): object => ({
    name: "solve",
    modifiers: [{ type: "sparsegpt", spec: pattern, calibration: { utterances: 256, seed } }],
  });
  return { ...tuned, recipe: (budget) => ({ stages: [solve(budget.seed), ...(tuned.recipe?.(budget) as { stages: object[] }).stages] }) };
}

/** Solved in one shot, every block rebuilt alone (docs/recipes.md#block-by-block), then all fine-tuned together as above. */
export function rebuilt(
  name: string,
  label: string,
  solver: Modifier,
  quantizer: Modifier | undefined,
  { rebuildRate, ...training }: { readonly rebuildRate: number; readonly learningRate: number },
): RowDefinition {
  const tuned = fineTuned(name, label, () => [...(quantizer ? [quantizer] : []), firmTeacher], { ...gentle, ...training });
  const plain = { weightDecay: 0, emaDecay: 0.98, specAugment: false, speedPerturbation: false, blockwise: { utterances: 4096 } };
  // What the solver has rounded stays rounded; a format that comes later does not trouble the blocks.
  const kept = quantizer && solver["spec"] === quantizer["spec"] ? [quantizer] : [];
  return {
    ...tuned,
    recipe: (budget) => {
      const { augment: _, learningRate: __, ...rest } = budget;
      const stages = [
        { name: "solve", modifiers: [{ ...solver, calibration: { utterances: 256, seed: budget.seed, sequential: false } }] },
        { name: "rebuild", modifiers: kept, training: { ...rest, ...plain, learningRate: rebuildRate } },
      ];
      return { stages: [...stages, ...(tuned.recipe?.(budget) as { stages: object[] }).stages] };
    },
  };
}

/**
 * The same without the last stage, for formats that lose little: transcripts that the model knows by heart would cost more than four bits
 * do. What is multiplied in whole numbers while blocks are rebuilt is so too in the packed model.
 */
export function onlyRebuilt(name: string, label: string, activations: "int8" | "float32"): RowDefinition {
  const quantizer: Modifier = { ...int4Search, activations };
  const before: Modifier = { type: "round-to-nearest", spec: "int4", clipSearch: { steps: 15, lowest: 0.5 }, ...subsampling };
  const whole = rebuilt(name, label, { type: "gptq", spec: "int4" }, quantizer, { rebuildRate: 5e-4, learningRate: 0 });
  return {
    ...whole,
    recipe: (budget) => {
      const [solve, rebuild] = (whole.recipe?.(budget) as { stages: { modifiers: Modifier[] }[] }).stages as [
        { modifiers: Modifier[] },
        object,
      ];
      return { stages: [{ ...solve, modifiers: [before, ...solve.modifiers] }, rebuild] };
    },
  };
}
