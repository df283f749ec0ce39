/**
 * Times every plan of products with packed weights on the GPU at hand and writes the table of the fastest,
 * native/cuda/product_plans_sm90.inc (product_plan_table.hpp says how it is read).
 * usage: node dist/bench/gpu/tune_products.js TABLE [SECONDS [TOKENS,TOKENS..]]      at most so many seconds; numbers of tokens to
 * measure, from 33 on
 */
import { renameSync, writeFileSync } from "node:fs";
import {
  DeviceTensor,
  DeviceWeight,
  gpuInformation,
  hasGpu,
  packWeight,
  quantizeRows,
  synchronizeGpu,
  Tensor,
  tidy,
  trimGpuMemory,
  type Arithmetic,
} from "../../lib/index.js";
import { deviceLinearArguments } from "../../lib/device/device_linear.js";
import type { DeviceWeightHandle } from "../../lib/device/device_weight.js";
import { gpuAddon } from "../../lib/device/gpu.js";
import { values } from "../values.js";
import type { PlanBindings } from "./plan_bindings.js";

const native = (): PlanBindings => gpuAddon<PlanBindings>();

const kinds: readonly (readonly [spec: string, arithmetic: Arithmetic])[] = [
  ["float32+2:4", "bfloat16"],
  ["int4+2:4", "bfloat16"],
  ["int8+2:4", "int8"],
  ["int4+2:4", "int8"],
  ["int4", "bfloat16"],
  ["float32", "bfloat16"],
  ["int8", "int8"],
  ["int8", "bfloat16"],
  ["int4", "int8"],
];

/** Outputs and inputs of layers: those of the benchmark first, then of Conformers of all widths; large ones for few tokens alone. */
const benchmarked: [number, number][] = [
  [4096, 1024],
  [1024, 4096],
  [2048, 2048],
  [3072, 3072],
  [6144, 1536],
  [2048, 512],
];
const large: [number, number][] = [
  [8192, 8192],
  [4096, 11008],
  [18432, 73728],
  [12288, 36864],
];
const others = [1024, 512, 1536, 2048, 768, 1280].flatMap((d): [number, number][] => [
  [4 * d, d],
  [d, 4 * d],
  [d, d],
  [2 * d, d],
  [3 * d, d],
]);
const layers: [number, number][] = [...benchmarked, [4096, 4096], ...others];
const mostWeightsOfMany = 2 ** 24;

/** The most tokens of each class of product_plan_table.hpp; the middle ones are measured, and speak for what lies between. */
const tokenClasses = [16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096];
const measuredTokens = (process.argv[4] ?? "64,128,256,512,1024,2048,4096").split(",").map(Number);

/** Up to so many, a kernel for many tokens is taken only where it was measured (kMostFewTokensUnmeasured). */
const mostTokensOfFew = 64;
/** No plan: the model of the time chooses. */
const unknown = "-";

const patternRows = 64;
const cacheBytes = 96 * 2 ** 20;
const mostCopies = 24;

const sizeClass = (size: number): number => Math.round(2 * Math.log2(size));
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] as number;

class Weights {
  readonly copies: DeviceWeightHandle[] = [];
  readonly pattern: DeviceWeight;
  constructor(
    outputs: number,
    readonly inputs: number,
    spec: string,
    readonly arithmetic: Arithmetic,
  ) {
    this.pattern = tidy(() =>
      DeviceWeight.from(packWeight(Tensor.from(values(patternRows * inputs), [patternRows, inputs]), spec), { arithmetic }),
    );
    const bytes = (this.pattern.bytes * outputs) / patternRows;
    const wanted = gpuInformation().emulated ? 1 : Math.min(mostCopies, Math.ceil(cacheBytes / bytes));
    for (let i = 0; i < wanted; i++) this.copies.push(native().deviceWeightRepeat(this.pattern.handle, outputs / patternRows));
  }
  dispose(): void {
    for (const copy of this.copies) copy.release();
    this.pattern.dispose();
  }
}

/** Microseconds of a product by each plan. */
function race(weights: Weights, tokens: number): { times: Map<string, number>; chosen: string } {
  const times = new Map<string, number>();
  const x = tidy(() => DeviceTensor.from(Tensor.from(new Float32Array(tokens * weights.inputs).fill(0.5), [tokens, weights.inputs])));
  const codes = weights.arithmetic === "int8" ? quantizeRows(x, "int8") : undefined;
  const [operand, rowScales, , ...rest] = deviceLinearArguments(codes ?? x, weights.pattern, {});
  const first = weights.copies[0] as DeviceWeightHandle;
  const { plans, chosen } = native().devicePlans(first, tokens);
  const launches = gpuInformation().emulated ? 1 : Math.max(weights.copies.length, tokens >= 2048 ? 8 : 16);
  const timed = (plan: string, runs: number): number =>
    1000 * median([...native().deviceLinearTimes(operand, rowScales, weights.copies, ...rest, launches, runs, plan)]);
  let least = Infinity;
  for (const plan of plans) {
    const once = timed(plan, 1);
    const us = once < 1.3 * least ? Math.min(once, timed(plan, 5)) : once;
    times.set(plan, us);
    least = Math.min(least, us);
  }
  x.dispose();
  codes?.codes.dispose();
  codes?.scales.dispose();
  return { times, chosen };
}

const fastest = (times: ReadonlyMap<string, number>): string => [...times].reduce((a, b) => (b[1] < a[1] ? b : a))[0];

/** What was measured with the number of tokens nearest to `tokens` in ratio. */
function nearest<T extends { tokens: number }>(measured: readonly T[], tokens: number): T | undefined {
  const distance = (of: T): number => Math.abs(Math.log(of.tokens / tokens));
  return measured.reduce<T | undefined>((a, b) => (a && distance(a) <= distance(b) ? a : b), undefined);
}

/** The plan for few tokens, which is one for all their numbers: best in the product of what it loses at each. */
function fastestOfFew(races: readonly ReadonlyMap<string, number>[]): string {
  const common = [...(races[0] as ReadonlyMap<string, number>).keys()].filter(
    (plan) => /^\d/.test(plan) && races.every((times) => times.has(plan)),
  );
  const cost = (plan: string): number => races.reduce((sum, times) => sum + Math.log(times.get(plan) as number), 0);
  return common.reduce((a, b) => (cost(b) < cost(a) ? b : a));
}

if (!hasGpu()) throw new Error("there is no GPU to measure on");
const [table = "product_plans.inc", seconds = "Infinity"] = process.argv.slice(2);
const gpu = gpuInformation();
const begin = performance.now();
const isOver = (): boolean => performance.now() - begin > 1000 * Number(seconds);
const rows: string[] = [];
const report: object[] = [];
const seen = new Set<string>();

function write(): void {
  const header = [
    `// Measured on ${gpu.name}, ${new Date().toISOString().slice(0, 10)}, driver for CUDA ${gpu.driverVersion}; made by bench/gpu/tune_products.ts.`,
    `// kind, classes of outputs and inputs, plans for up to ${tokenClasses.join(", ")} tokens`,
  ];
  writeFileSync(`${table}.part`, [...header, ...rows, ""].join("\n"));
  renameSync(`${table}.part`, table);
  writeFileSync(`${table}.json`, `[\n${report.map((entry) => JSON.stringify(entry)).join(",\n")}\n]\n`);
}

function tune(
  [outputs, inputs]: [number, number],
  [spec, arithmetic]: readonly [string, Arithmetic],
  tokenNumbers: readonly number[],
): void {
  const key = `{"${spec} ${arithmetic}", ${sizeClass(outputs)}, ${sizeClass(inputs)}, `;
  if (seen.has(key)) return;
  seen.add(key);
  const weights = new Weights(outputs, inputs, spec, arithmetic);
  try {
    const few = [1, 16, 32].map((tokens) => ({ tokens, ...race(weights, tokens) }));
    const many = tokenNumbers.filter((tokens) => tokens > 32).map((tokens) => ({ tokens, ...race(weights, tokens) }));
    for (const { tokens, times, chosen } of [...few, ...many]) {
      report.push({
        spec,
        arithmetic,
        outputs,
        inputs,
        tokens,
        chosen,
        us: Object.fromEntries([...times].map(([plan, us]) => [plan, Math.round(us * 100) / 100])),
      });
    }
    const planOfFew = fastestOfFew(few.map(({ times }) => times));
    const plans = tokenClasses.map((most) => {
      const measured = nearest(many, most);
      if (most <= mostTokensOfFew && !(measured && measured.tokens <= mostTokensOfFew)) return planOfFew;
      return measured ? fastest(measured.times) : unknown;
    });
    rows.push(`${key}"${plans.map((plan) => (/^\d/.test(plan) ? planOfFew : plan)).join(" ")}"},`);
  } catch (error) {
    console.error(`${key} ${(error as Error).message}`);
  }
  weights.dispose();
  synchronizeGpu();
  trimGpuMemory();
}

/** Products of two dense matrices: our kernel or cuBLASLt. */
function tuneDense([outputs, inputs]: [number, number], tokenNumbers: readonly number[]): void {
  const key = `{"dense", ${sizeClass(outputs)}, ${sizeClass(inputs)}, `;
  if (seen.has(key)) return;
  seen.add(key);
  const filled = (rows: number): DeviceTensor =>
    tidy(() => DeviceTensor.from(Tensor.from(new Float32Array(rows * inputs).fill(0.5), [rows, inputs])));
  const ws = Array.from({ length: gpu.emulated ? 1 : Math.min(8, Math.ceil(cacheBytes / (2 * outputs * inputs))) }, () => filled(outputs));
  const best = tokenNumbers.map((tokens) => {
    const x = filled(tokens);
    const times = new Map(
      native()
        .deviceMatmulWays()
        .map((way) => {
          const us = native().deviceMatmulTimes(
            x.handle,
            ws.map(({ handle }) => handle),
            way,
            gpu.emulated ? 1 : 16,
            5,
          );
          return [way, 1000 * median([...us])] as const;
        }),
    );
    x.dispose();
    report.push({ spec: "dense", outputs, inputs, tokens, us: Object.fromEntries(times) });
    return { tokens, way: fastest(times) };
  });
  rows.push(`${key}"${tokenClasses.map((most) => nearest(best, most)?.way).join(" ")}"},`);
  for (const w of ws) w.dispose();
  trimGpuMemory();
}

/** What cannot be measured is left to the models. */
function tuneDenseOf(of: readonly [number, number][]): void {
  for (const layer of of) {
    if (isOver()) return;
    try {
      tuneDense(layer, measuredTokens);
    } catch (error) {
      console.error(`dense ${layer.join("x")}: ${(error as Error).message}`);
    }
  }
}

function tuneAll(of: readonly [number, number][], by: typeof kinds): void {
  for (const layer of of) {
    for (const kind of by) {
      if (isOver()) return;
      tune(layer, kind, layer[0] * layer[1] > mostWeightsOfMany ? [] : measuredTokens);
    }
  }
}

if (gpu.emulated) {
  tuneDense([128, 256], [128]);
  tune([128, 256], kinds[0] as (typeof kinds)[number], [128]);
} else {
  const [sparse, dense] = [kinds.slice(0, 4), kinds.slice(4)];
  tuneAll(benchmarked, sparse);
  tuneAll(
    large,
    kinds.filter(([spec]) => spec.startsWith("int4")),
  );
  tuneAll(benchmarked, dense.slice(0, 3));
  write();
  tuneDenseOf(benchmarked);
  tuneAll(layers, kinds);
  tuneDenseOf(layers);
}
write();
console.log(`${rows.length} rows in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
