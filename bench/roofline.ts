/**
 * `node dist/bench/roofline.js RESULTS.json [SVG [PAGE.md]]`: how much of the machine the packed products of suite `matmul-cpu` use on
 * one thread. Measures the limits of this machine, prints a table in Markdown, or puts it between its two marks on a page, and
 * draws the roofline plot.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeMarkedText } from "./marked_text.js";
import { packageRoot } from "./package_root.js";
import type { BenchmarkRecord, BenchmarkReport } from "./record.js";

interface Limits {
  /** Gop/s of independent vpdpbusd instructions. */
  vpdpbusd: number;
  fma: number;
  /** GB/s of reading so many KiB again and again. */
  read: Record<string, number>;
}

/** Bits that a weight takes in memory, zeros of sparse ones counted. */
const residentBits: Record<string, number> = {
  int8: 8,
  int4: 4,
  nf4: 4,
  int2: 2,
  ternary: 2,
  int1: 1,
  "int4/g128": 4.25,
  "int8+2:4": 5,
  "int4+2:4": 3,
  "int4+1:4": 1.5,
};

interface Point {
  name: string;
  spec: string;
  m: number;
  /** Operations for each byte of weights, activations and results. */
  intensity: number;
  /** Of the fastest run. */
  gops: number;
  /** GB/s of weights alone. */
  weightRate: number;
  weightBytes: number;
}

function measureLimits(): Limits {
  const folder = join(packageRoot, "build", "bench");
  const path = join(folder, "machine_limits");
  mkdirSync(folder, { recursive: true });
  const flags = ["-O2", "-std=c++20", "-mavx512f", "-mavx512bw", "-mavx512vnni"];
  execFileSync("g++", [...flags, join(packageRoot, "bench", "peers", "machine_limits.cpp"), "-o", path]);
  return JSON.parse(execFileSync(path, { encoding: "utf8" })) as Limits;
}

function pointOf(record: BenchmarkRecord): Point | undefined {
  const bits = residentBits[record.spec];
  if (record.impl !== "usm-lite" || record.threads !== 1 || !record.shape || bits === undefined) return undefined;
  const { m, n, k } = record.shape;
  const operations = 2 * m * n * k;
  const weightBytes = (n * k * bits) / 8;
  return {
    name: record.case.replace("forward ", ""),
    spec: record.spec,
    m,
    intensity: operations / (weightBytes + 4 * m * k + 4 * m * n),
    gops: operations / record.ms_min / 1e6,
    weightRate: weightBytes / record.ms_min / 1e6,
    weightBytes,
  };
}

/** The bandwidth of the smallest measured size that holds the bytes. */
function bandwidth({ read }: Limits, bytes: number): number {
  const sizes = Object.keys(read)
    .map(Number)
    .sort((a, b) => a - b);
  const size = sizes.find((kib) => kib * 1024 >= bytes) ?? (sizes.at(-1) as number);
  return read[size] as number;
}

function table(points: readonly Point[], limits: Limits): string {
  const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(0)} %`;
  const rows = points.map((point) =>
    [
      point.name,
      point.spec,
      point.gops.toFixed(0),
      percent(point.gops, limits.vpdpbusd),
      point.weightRate.toFixed(1),
      percent(point.weightRate, bandwidth(limits, point.weightBytes)),
    ].join(" | "),
  );
  return [
    "| m x k x n | spec | Gop/s | of vpdpbusd peak | weights, GB/s | of bandwidth |",
    "|---|---|---|---|---|---|",
    ...rows.map((row) => `| ${row} |`),
  ].join("\n");
}

const colours: Record<string, string> = {
  int8: "#1f77b4",
  int4: "#d62728",
  "int4/g128": "#ff9896",
  int2: "#9467bd",
  ternary: "#8c564b",
  int1: "#e377c2",
  nf4: "#bcbd22",
  "int8+2:4": "#17becf",
  "int4+2:4": "#2ca02c",
  "int4+1:4": "#7f7f7f",
};

function plot(points: readonly Point[], limits: Limits, machine: string): string {
  const [width, height, left, bottom] = [820, 520, 70, 50];
  const [lowX, highX, lowY, highY] = [0, 4, 1.5, 3.5]; // powers of ten
  const x = (intensity: number): number => left + ((Math.log10(intensity) - lowX) / (highX - lowX)) * (width - left - 150);
  const y = (gops: number): number => height - bottom - ((Math.log10(gops) - lowY) / (highY - lowY)) * (height - bottom - 40);
  const memory = bandwidth(limits, 8 << 20);
  const ridge = limits.vpdpbusd / memory;
  const line = (x1: number, y1: number, x2: number, y2: number, style: string): string =>
    `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" ${style}/>`;
  const text = (at: number, to: number, content: string, more = ""): string =>
    `<text x="${at.toFixed(1)}" y="${to.toFixed(1)}" ${more}>${content}</text>`;
  const parts: string[] = [];
  for (let power = lowX; power <= highX; power++) {
    parts.push(
      line(x(10 ** power), y(10 ** lowY), x(10 ** power), y(10 ** highY), 'stroke="#ddd"'),
      text(x(10 ** power), height - bottom + 18, String(10 ** power), 'text-anchor="middle"'),
    );
  }
  for (const gops of [50, 100, 200, 500, 1000, 2000]) {
    parts.push(
      line(x(1), y(gops), x(10 ** highX), y(gops), 'stroke="#ddd"'),
      text(left - 8, y(gops) + 4, String(gops), 'text-anchor="end"'),
    );
  }
  const roof = 'stroke="black" stroke-width="2"';
  parts.push(
    line(x(ridge), y(limits.vpdpbusd), x(10 ** highX), y(limits.vpdpbusd), roof),
    line(x(10 ** lowY / memory < 1 ? 1 : 10 ** lowY / memory), y(Math.max(memory, 10 ** lowY)), x(ridge), y(limits.vpdpbusd), roof),
  );
  for (const { intensity, gops, spec, m } of points) {
    const shape =
      m === 1
        ? `<rect x="${(x(intensity) - 4).toFixed(1)}" y="${(y(gops) - 4).toFixed(1)}" width="8" height="8"`
        : `<circle cx="${x(intensity).toFixed(1)}" cy="${y(gops).toFixed(1)}" r="4.5"`;
    parts.push(`${shape} fill="${colours[spec] ?? "black"}" fill-opacity="0.8"/>`);
  }
  Object.entries(colours).forEach(([spec, colour], i) => {
    parts.push(`<circle cx="${width - 130}" cy="${60 + i * 20}" r="5" fill="${colour}"/>`, text(width - 118, 64 + i * 20, spec));
  });
  parts.push(text(width - 136, 64 + 10 * 20, "squares: one row"));
  parts.push(
    text((left + width - 150) / 2, height - 12, "operations per byte of weights, activations and results", 'text-anchor="middle"'),
  );
  parts.push(
    text(
      left,
      22,
      `Gop/s, one thread, ${machine}: vpdpbusd peak ${limits.vpdpbusd.toFixed(0)}, reading 8 MiB ${memory.toFixed(0)} GB/s`,
      'font-weight="bold"',
    ),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">\n<rect width="${width}" height="${height}" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
}

const [results, svg, page] = process.argv.slice(2);
if (results === undefined) {
  console.error("usage: node dist/bench/roofline.js RESULTS.json [SVG [PAGE.md]]");
  process.exit(2);
}
const report = JSON.parse(readFileSync(results, "utf8")) as BenchmarkReport;
const limits = measureLimits();
const points = report.records.map(pointOf).filter((point) => point !== undefined);
const text = `${report.machine}, ${report.date.slice(0, 10)}: the fastest rounds on one thread. Limits in Gop/s, and in GB/s by KiB: \`${JSON.stringify(limits)}\`.\n\n${table(points, limits)}`;
if (page === undefined) console.log(text);
else writeMarkedText(page, "table of the roofline", text);
if (svg !== undefined) writeFileSync(svg, plot(points, limits, report.machine));
