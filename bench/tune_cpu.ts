/**
 * `npm run tune:cpu [-- --sets avx2,avx512] [--dry]`: measures schedules of packed products on this machine, in turn, and writes
 * native/cpu/packed_schedule_table.inc. Rows of instruction sets that the machine lacks stay as they are.
 */
import "../lib/cli/one_line_failures.js";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  availableInstructionSets,
  PackedMatrix,
  packWeight,
  setInstructionSet,
  setThreadCount,
  Tensor,
  tidy,
  threadCount,
} from "../lib/index.js";
import { addon } from "../lib/native/addon.js";
import { median, timed } from "./measure.js";
import { packageRoot } from "./package_root.js";
import { values } from "./values.js";

/** Few rows, least and most rows of a tile, rows of a task, turns, matrix rows: PackedSchedule of native/cpu/packed_schedule.hpp. */
type Schedule = readonly [few: number, least: number, most: number, rowsPerTask: number, turns: number, matrixRows: number];

interface Row {
  set: string;
  weight: string;
  shape: string;
  schedule: Schedule;
  comment: string;
}

const native = addon as { packedLinear(...operands: unknown[]): Tensor["handle"] };
const path = join(packageRoot, "native", "cpu", "packed_schedule_table.inc");
const specs: Record<string, readonly string[]> = { kDense: ["int8", "int4"], kGathered2: ["int4+2:4"], kGathered1: ["int4+1:4"] };
const inputs: Record<string, number> = { kShallow: 256, kDeep: 1024 };
const OUTPUTS = 1024;
const ROUNDS = 15;
const MILLISECONDS = 2;
/** A schedule replaces another when its median is so much lower, and it was faster in so many of the rounds. */
const GAIN = 0.02;
const ROUNDS_WON = 0.8;

/** What is tried, one part after the other: schedules that differ from the best so far, and the rows (m) and threads that tell. */
interface Trial {
  candidates(best: Schedule, set: string): Schedule[];
  rows: readonly number[];
  threads: number;
}
const trials: readonly Trial[] = [
  {
    candidates: ([few, , most, task, turns, matrix]) =>
      [4, 6, 8, 10, 12].filter((least) => least <= most).map((least) => [few, least, most, task, turns, matrix]),
    rows: [64, 256, 400],
    threads: 1,
  },
  {
    candidates: ([, least, most, task, turns, matrix], set) =>
      (set.startsWith("avx512") ? [4, 8, 12, 16] : []).map((few) => [few, least, most, task, turns, matrix]),
    rows: [8, 12, 16],
    threads: 1,
  },
  {
    candidates: ([few, least, most, , turns, matrix]) => [96, 192, 384, 768].map((task) => [few, least, most, task, turns, matrix]),
    rows: [256, 1536],
    threads: 2,
  },
  {
    candidates: ([few, least, most, task, , matrix], set) =>
      (set.startsWith("avx512") ? [4, 8, 16] : []).map((turns) => [few, least, most, task, turns, matrix]),
    rows: [1, 16],
    threads: 2,
  },
  {
    candidates: ([few, least, most, task, turns], set) =>
      (set === "avx512amx" ? [1, 32, 128, 1024] : []).map((matrix) => [few, least, most, task, turns, matrix]),
    rows: [17, 32, 256, 1500],
    threads: 1,
  },
];

function readTable(): Row[] {
  const pattern = /^\{"(\w+)", (\w+), (\w+), \{([\d, ]+)\}\},(.*)$/gm;
  return [...readFileSync(path, "utf8").matchAll(pattern)].map(([, set = "", weight = "", shape = "", numbers = "", comment = ""]) => ({
    set,
    weight,
    shape,
    schedule: numbers.split(",").map(Number) as unknown as Schedule,
    comment: comment.replace(/^ \/\/ /, ""),
  }));
}

function writeTable(rows: readonly Row[]): void {
  const head = readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("//"));
  const lines = rows.map(
    ({ set, weight, shape, schedule, comment }) =>
      `{"${set}", ${weight}, ${shape}, {${schedule.join(", ")}}},${comment && ` // ${comment}`}`,
  );
  writeFileSync(path, `${[...head, ...lines].join("\n")}\n`);
}

/**
 * Milliseconds of the fastest product of each round of each schedule, so that a round in which another program ran meanwhile still
 * counts. In every round they take turns, beginning with another one each time.
 */
function timesOf(schedules: readonly Schedule[], x: Tensor, weight: PackedMatrix): number[][] {
  const once = (schedule: Schedule): void =>
    new Tensor(native.packedLinear(x.handle, weight.handle, undefined, "none", 1, undefined, 1, "int8", schedule)).dispose();
  const fastest = (schedule: Schedule, repetitions: number): number => Math.min(...timed(() => once(schedule), repetitions));
  const [first] = schedules as [Schedule];
  once(first);
  const repetitions = Math.max(3, Math.min(20, Math.ceil(MILLISECONDS / fastest(first, 3))));
  const times = schedules.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (let turn = 0; turn < schedules.length; turn++) {
      const index = (turn + round) % schedules.length;
      times[index]?.push(fastest(schedules[index] as Schedule, repetitions));
    }
  }
  return times;
}

/** How each schedule compares with the first: geometric mean of the ratios of medians, and the share of rounds it was faster in. */
function compare(schedules: readonly Schedule[], row: Row, rows: readonly number[]): { ratio: number; won: number }[] {
  const columns = inputs[row.shape] as number;
  const works = (specs[row.weight] as readonly string[]).flatMap((spec) => rows.map((m) => ({ spec, m })));
  const logarithms = schedules.map(() => 0);
  const won = schedules.map(() => 0);
  for (const { spec, m } of works) {
    using weight = tidy(() => PackedMatrix.from(packWeight(Tensor.from(values(OUTPUTS * columns), [OUTPUTS, columns]), spec)));
    using x = Tensor.from(values(m * columns), [m, columns]);
    const times = timesOf(schedules, x, weight);
    const base = times[0] as number[];
    times.forEach((of, index) => {
      logarithms[index] = (logarithms[index] as number) + Math.log(median(of) / median(base)) / works.length;
      won[index] = (won[index] as number) + of.filter((time, round) => time < (base[round] as number)).length / ROUNDS / works.length;
    });
  }
  return schedules.map((_, index) => ({ ratio: Math.exp(logarithms[index] as number), won: won[index] as number }));
}

function tune(row: Row): Row {
  let best = row.schedule;
  for (const { candidates, rows, threads } of trials) {
    const others = candidates(best, row.set).filter((schedule) => schedule.join() !== best.join());
    if (others.length === 0 || threads > cpus().length) continue;
    setThreadCount(threads);
    const results = compare([best, ...others], row, rows);
    console.log(
      `${row.set} ${row.weight} ${row.shape}: ${[best, ...others].map((schedule, i) => `${schedule.join("/")} ${results[i]?.ratio.toFixed(3)} (${((results[i]?.won ?? 0) * 100).toFixed(0)} %)`).join(", ")}`,
    );
    const fastest = others
      .map((schedule, i) => ({ schedule, ...(results[i + 1] as { ratio: number; won: number }) }))
      .sort((a, b) => a.ratio - b.ratio)[0];
    if (fastest && fastest.ratio < 1 - GAIN && fastest.won >= ROUNDS_WON) best = fastest.schedule;
  }
  return { ...row, schedule: best, comment: `${machine}, ${new Date().toISOString().slice(0, 10)}` };
}

const { values: options } = parseArgs({
  options: { sets: { type: "string" }, dry: { type: "boolean", default: false }, machine: { type: "string" } },
});
const machine = options.machine ?? cpus()[0]?.model.trim() ?? "unknown";
const [load = 0] = loadavg();
if (load > 0.5) console.error(`other programs are running (load average ${load.toFixed(1)}); only large differences will be found`);
const available: readonly string[] = availableInstructionSets();
const sets = options.sets?.split(",") ?? available;
const threadsBefore = threadCount();
const table = readTable().map((row) => {
  if (!sets.includes(row.set) || !available.includes(row.set)) return row;
  setInstructionSet(row.set as Parameters<typeof setInstructionSet>[0]);
  return tune(row);
});
setThreadCount(threadsBefore);
if (options.dry) table.forEach((row) => console.log(row.set, row.weight, row.shape, row.schedule.join("/")));
else writeTable(table);
