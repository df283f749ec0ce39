/**
 * `node dist/bench/matmul_tables.js RESULTS.json [PAGE.md]`: the tables of docs/kernels.md that show what suite `matmul-cpu`
 * measured, in Markdown. With a page, they take the place of what lies between its two marks.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { writeMarkedText } from "./marked_text.js";
import type { BenchmarkRecord, BenchmarkReport } from "./record.js";

/** Which records a column shows. */
interface Column {
  title: string;
  impl: string;
  spec: string;
  /** How the note begins. */
  note?: string;
}

const ours = (spec: string): Column => ({ title: spec, impl: "usm-lite", spec });
const oneDnnInt8 = { title: "oneDNN u8s8 (whole numbers alone)", impl: "onednn", spec: "int8" };
const matMulNBits = { title: "ORT MatMulNBits int4/g128", impl: "onnxruntime", spec: "int4/g128" };
const ternaryOfGgml = { title: "ggml TQ2_0", impl: "ggml", spec: "ternary/g256" };
const floatMadeReady = { title: "usm-lite, weights made ready", impl: "usm-lite", spec: "float32", note: "weights made ready" };
const floatPeers: Column[] = [
  { title: "oneDNN", impl: "onednn", spec: "float32" },
  { title: "OpenBLAS", impl: "openblas", spec: "float32" },
  { title: "ONNX Runtime", impl: "onnxruntime", spec: "float32" },
];
const packedColumns: Column[] = [
  ...["int8", "int4", "int2", "ternary", "int4+2:4", "int4+1:4"].map(ours),
  oneDnnInt8,
  { title: "ORT int8 dynamic", impl: "onnxruntime", spec: "int8-dynamic" },
  matMulNBits,
  ternaryOfGgml,
];
const floatColumns: Column[] = [
  floatMadeReady,
  { ...floatMadeReady, title: "usm-lite, weights in rows", note: "weights in rows" },
  ...floatPeers,
];

/** Forward products of one run. */
class Measurements {
  private readonly records: readonly BenchmarkRecord[];

  constructor(readonly report: BenchmarkReport) {
    this.records = report.records.filter((record) => record.suite === "matmul-cpu" && record.case.startsWith("forward "));
  }
  get works(): string[] {
    return [...new Set(this.records.map((record) => record.case.replace("forward ", "")))];
  }
  get threads(): number[] {
    return [...new Set(this.records.map((record) => record.threads))].sort((a, b) => a - b);
  }
  record(work: string, threads: number, { impl, spec, note = "" }: Column): BenchmarkRecord | undefined {
    return this.records.find(
      (record) =>
        record.case === `forward ${work}` &&
        record.threads === threads &&
        record.impl.split(/[- ]/)[0] === impl.split("-")[0] &&
        record.spec === spec &&
        (record.note ?? "").startsWith(note),
    );
  }
  ms(work: string, threads: number, column: Column): number | undefined {
    return this.record(work, threads, column)?.ms;
  }
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");

const threadsInWords = (threads: number): string => `${threads} ${threads === 1 ? "thread" : "threads"}`;

/** Medians in microseconds; columns without any are left out. */
function times(of: Measurements, columns: readonly Column[]): string {
  const shown = columns.filter((column) =>
    of.works.some((work) => of.threads.some((threads) => of.ms(work, threads, column) !== undefined)),
  );
  const rows = of.works.flatMap((work) =>
    of.threads.map((threads) => [
      `${work}, ${threads}`,
      ...shown.map((column) => of.ms(work, threads, column)).map((ms) => (ms === undefined ? "" : (1000 * ms).toFixed(0))),
    ]),
  );
  return table(["m x k x n, threads", ...shown.map((column) => column.title)], rows);
}

/** Milliseconds of case `prepack`. */
function preparation({ report, threads }: Measurements): string {
  const records = report.records.filter((record) => record.case === "prepack");
  const rows = [...new Set(records.map((record) => record.spec))].map((spec) => [
    spec,
    ...threads.map((count) => records.find((record) => record.spec === spec && record.threads === count)?.ms.toFixed(0) ?? ""),
  ]);
  return table(["weights", ...threads.map(threadsInWords)], rows);
}

/** What is aimed at: a figure for each number of threads, and the least that it should be. */
interface Aim {
  what: string;
  least: string;
  figure(of: Measurements, threads: number): number | undefined;
  unit?: "Gop/s";
}

/** How many times as fast `column` is as the fastest of `others`. */
const ratio =
  (work: string, column: Column, others: readonly Column[]) =>
  (of: Measurements, threads: number): number | undefined => {
    const [ms, fastest] = [of.ms(work, threads, column), Math.min(...others.map((other) => of.ms(work, threads, other) ?? Infinity))];
    return ms === undefined || fastest === Infinity ? undefined : fastest / ms;
  };
const speed =
  (work: string, column: Column) =>
  (of: Measurements, threads: number): number | undefined =>
    of.record(work, threads, column)?.gops;
const [middle, wide, row, sixteen] = ["256x1024x1024", "1500x512x2048", "1x4096x4096", "16x4096x4096"] as const;

const aims: readonly Aim[] = [
  { what: `${middle}, int4`, least: "550, 1000", figure: speed(middle, ours("int4")), unit: "Gop/s" },
  { what: `${middle}, int4+2:4`, least: "550, 1000", figure: speed(middle, ours("int4+2:4")), unit: "Gop/s" },
  { what: `${middle}, int4 beside MatMulNBits`, least: "3.5x", figure: ratio(middle, ours("int4"), [matMulNBits]) },
  { what: `${middle}, int8 beside oneDNN u8s8`, least: "0.95x", figure: ratio(middle, ours("int8"), [oneDnnInt8]) },
  {
    what: `${middle}, int4 beside itself on one thread`,
    least: "1.85x",
    figure: (of, threads) => {
      const [one, now] = [of.ms(middle, 1, ours("int4")), of.ms(middle, threads, ours("int4"))];
      return threads === 1 || one === undefined || now === undefined ? undefined : one / now;
    },
  },
  { what: `${wide}, int4+2:4 beside the fastest float32 of others`, least: "2.5x", figure: ratio(wide, ours("int4+2:4"), floatPeers) },
  { what: `${row}, int4 beside MatMulNBits`, least: "1x", figure: ratio(row, ours("int4"), [matMulNBits]) },
  { what: `${row}, int4+2:4 beside int4`, least: "1.2x", figure: ratio(row, ours("int4+2:4"), [ours("int4")]) },
  { what: `${row}, int2 beside int4`, least: "1.6x", figure: ratio(row, ours("int2"), [ours("int4")]) },
  { what: `${row}, ternary beside ggml TQ2_0`, least: "2x", figure: ratio(row, ours("ternary"), [ternaryOfGgml]) },
  { what: `${sixteen}, int4+1:4 beside int4`, least: "1.3x", figure: ratio(sixteen, ours("int4+1:4"), [ours("int4")]) },
  {
    what: "float32 made ready beside the faster of oneDNN and OpenBLAS, worst shape",
    least: "0.95x",
    figure: (of, threads) =>
      of.works
        .map((work) => ratio(work, floatMadeReady, floatPeers.slice(0, 2))(of, threads))
        .reduce((worst, now) => (now !== undefined && now < (worst ?? Infinity) ? now : worst), undefined),
  },
];

function reached(of: Measurements): string {
  const rows = aims.map(({ what, least, figure, unit }) => [
    what,
    least,
    ...of.threads
      .map((threads) => figure(of, threads))
      .map((value) => (value === undefined ? "" : unit ? value.toFixed(0) : `${value.toFixed(2)}x`)),
  ]);
  return table(["work", "aim", ...of.threads.map(threadsInWords)], rows);
}

function page(report: BenchmarkReport): string {
  const of = new Measurements(report);
  return [
    `${report.machine}, ${report.date.slice(0, 10)}. What is aimed at, and what was reached (Gop/s, or how many times as fast):`,
    reached(of),
    "Medians, in microseconds:",
    times(of, packedColumns),
    "float32:",
    times(of, floatColumns),
    "Weights of 600 million parameters, computed from one layer of 2048 x 2048, are made ready in milliseconds:",
    preparation(of),
  ].join("\n\n");
}

const {
  positionals: [results, path],
} = parseArgs({ allowPositionals: true });
if (results === undefined) {
  console.error("usage: node dist/bench/matmul_tables.js RESULTS.json [PAGE.md]");
  process.exit(2);
}
const text = page(JSON.parse(readFileSync(results, "utf8")) as BenchmarkReport);
if (path === undefined) console.log(text);
else writeMarkedText(path, "tables of matmul-cpu", text);
