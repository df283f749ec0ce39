/** The quality tables: which rows stand beside each other, and what they are compared with. */
import {
  asItIs,
  averaged,
  faithful,
  fewShot,
  fineTuned,
  firmTeacher,
  fromSparseGpt,
  gentle,
  growing,
  int4Search,
  onlyRebuilt,
  rebuilt,
  rounded,
  search,
  solved,
  teacher,
  type Modifier,
  type RowDefinition,
} from "./row_recipes.js";

export interface QualityTable {
  readonly title: string;
  /** Name of the row that relative changes refer to. */
  readonly baseline: string;
  readonly rows: readonly RowDefinition[];
}

const specs = ["float32", "int8", "int4", "int3", "int2", "2:4", "1:4", "int4+2:4", "int2+2:4", "int4+1:4"];
const lowBits = ["int4", "int3", "int2", "2:4", "1:4", "int4+2:4"];

/** Two-bit weights of the blocks, otherwise the faithful method: which part of a quantizer matters. */
const twoBit = (name: string, label: string, quantizer: object): RowDefinition =>
  fineTuned(`two-bit-${name}`, label, () => [{ type: "quantization", ...quantizer } as Modifier]);

export const tables: Readonly<Record<string, QualityTable>> = {
  specs: { title: "Specs, fine-tuned by the faithful method", baseline: "fine-tuned-float32", rows: [asItIs, ...specs.map(faithful)] },
  "one-shot": {
    title: "Specs in one shot",
    baseline: "float32",
    rows: [asItIs, ...lowBits.flatMap((spec) => [rounded(spec), solved(spec)])],
  },
  ours: {
    title: "What the toolbox adds to the faithful method",
    baseline: "fine-tuned-float32",
    rows: [
      faithful("float32"),
      fineTuned(
        "ours-int4+2:4",
        "int4+2:4, ours",
        (budget) => [
          { type: "quantization", spec: "int4", clipSearch: { steps: 8, lowest: 0.65 } },
          fewShot("2:4", growing)(budget),
          teacher,
        ],
        averaged,
      ),
      fineTuned(
        "ours-midrise2+2:4",
        "midrise2/g64+2:4, ours",
        (budget) => [{ type: "quantization", spec: "midrise2/g64", ...search }, fewShot("2:4", growing)(budget), teacher],
        averaged,
      ),
      fineTuned(
        "ours-midrise2-channel+2:4",
        "midrise2+2:4, ours",
        (budget) => [{ type: "quantization", spec: "midrise2", ...search }, fewShot("2:4", growing)(budget), teacher],
        averaged,
      ),
      fineTuned(
        "ours-int2",
        "int2/g64, ours",
        () => [{ type: "quantization", spec: "int2/g64", scale: "edge", ...search }, teacher],
        averaged,
      ),
      fineTuned("ours-1:4", "1:4, ours", (budget) => [fewShot("1:4", growing)(budget), teacher], averaged),
      fineTuned(
        "ours-int4+1:4",
        "int4+1:4, ours",
        (budget) => [
          { type: "quantization", spec: "int4", clipSearch: { steps: 8, lowest: 0.65 } },
          fewShot("1:4", growing)(budget),
          teacher,
        ],
        averaged,
      ),
      fineTuned(
        "ours-ternary",
        "ternary/g64, ours",
        () => [{ type: "quantization", spec: "ternary/g64", scale: "threshold" }, teacher],
        averaged,
      ),
      fineTuned("ours-int1", "int1/g64, ours", () => [{ type: "quantization", spec: "int1/g64" }, teacher], averaged),
    ],
  },
  taught: {
    title: "Begun with SparseGPT, and taught by the float model more than by transcripts",
    baseline: "float32",
    rows: [
      asItIs,
      fineTuned("taught-float32", "float32, taught", () => [firmTeacher], { ...gentle, learningRate: 1e-4 }),
      fromSparseGpt("taught-int4+2:4", "int4+2:4, taught", "2:4", int4Search, { ...gentle, learningRate: 2e-4 }),
      fromSparseGpt(
        "taught-midrise2+2:4",
        "midrise2+2:4, taught",
        "2:4",
        { type: "quantization", spec: "midrise2", ...search },
        { ...gentle, learningRate: 5e-4 },
      ),
      fineTuned("taught-int2", "int2, taught", () => [{ type: "quantization", spec: "int2", scale: "edge", ...search }, firmTeacher], {
        ...gentle,
        learningRate: 5e-4,
      }),
      fromSparseGpt("taught-1:4", "1:4, taught", "1:4", undefined, { ...gentle, learningRate: 1e-3 }),
      rebuilt("rebuilt-1:4", "1:4, rebuilt", { type: "sparsegpt", spec: "1:4" }, undefined, { rebuildRate: 5e-3, learningRate: 1e-3 }),
      rebuilt("rebuilt-int4+1:4", "int4+1:4, rebuilt", { type: "sparsegpt", spec: "1:4" }, int4Search, {
        rebuildRate: 5e-3,
        learningRate: 1e-3,
      }),
      rebuilt(
        "rebuilt-int2",
        "int2, rebuilt",
        { type: "gptq", spec: "int2" },
        { type: "quantization", spec: "int2", scale: "edge", ...search },
        { rebuildRate: 1e-3, learningRate: 5e-4 },
      ),
      onlyRebuilt("rebuilt-w4", "W4, rebuilt only", "float32"),
      onlyRebuilt("rebuilt-w4a8", "W4A8, rebuilt only", "int8"),
      rebuilt("rebuilt-int4+2:4", "int4+2:4, rebuilt", { type: "sparsegpt", spec: "2:4" }, int4Search, {
        rebuildRate: 2e-3,
        learningRate: 2e-4,
      }),
      fromSparseGpt("taught-int4+1:4", "int4+1:4, taught", "1:4", int4Search, { ...gentle, learningRate: 1e-3 }),
    ],
  },
  "four-bit": {
    title: "Four bits: weights and activations",
    baseline: "fine-tuned-float32",
    rows: [
      faithful("float32"),
      fineTuned("w4", "W4", () => [{ type: "quantization", spec: "int4", scale: "edge", activations: "float32" }]),
      fineTuned("w4a8", "W4A8", () => [{ type: "quantization", spec: "int4", scale: "edge", activations: "int8" }]),
      fineTuned("w4a4", "W4A4", () => [{ type: "quantization", spec: "int4", scale: "edge", activations: "int4" }]),
      fineTuned("w48a8", "W4 and W8, A8: first and last block in eight bits", () => [
        { type: "quantization", spec: "int4", scale: "edge", activations: "int8" },
        { type: "quantization", targets: ["re:encoder\\.layers\\.(0|9)\\..*"], spec: "int8", activations: "int8" },
      ]),
    ],
  },
  "two-bit": {
    title: "Two bits and fewer: which part of the quantizer matters",
    baseline: "fine-tuned-float32",
    rows: [
      faithful("float32"),
      faithful("int2"),
      twoBit("edge", "int2, edge scale", { spec: "int2", scale: "edge" }),
      twoBit("searched", "int2, searched scale", { spec: "int2", scale: "edge", ...search }),
      twoBit("groups-maximum", "int2/g64, max over 1", { spec: "int2/g64", scale: "maximum" }),
      twoBit("groups-searched", "int2/g64, searched scale", { spec: "int2/g64", scale: "edge", ...search }),
      twoBit("asymmetric", "uint2/g64, clipped", { spec: "uint2/g64", clip: 0.65, gradient: "clipped" }),
      twoBit("midrise", "midrise2/g64, searched scale", { spec: "midrise2/g64", ...search }),
      twoBit("ternary", "ternary/g64, threshold", { spec: "ternary/g64", scale: "threshold" }),
      twoBit("binary", "int1/g64, mean", { spec: "int1/g64" }),
    ],
  },
};
