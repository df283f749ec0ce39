/** How a record is shown to the person who runs a benchmark. */
import type { BenchmarkRecord } from "./record.js";

/** Same piece of work: what a speed can be compared with. */
function samePiece(a: BenchmarkRecord, b: BenchmarkRecord): boolean {
  const { m, n, k } = a.shape ?? { m: 0, n: 0, k: 0 };
  const other = b.shape ?? { m: 0, n: 0, k: 0 };
  return a.suite === b.suite && a.case === b.case && a.threads === b.threads && m === other.m && n === other.n && k === other.k;
}

/**
 * One line: the work, who did it, the median and the range, and the speed beside the first of `earlier` that did the same work
 * ("2.00x" took half of its time).
 */
export function recordLine(record: BenchmarkRecord, earlier: readonly BenchmarkRecord[]): string {
  const first = earlier.find((other) => samePiece(other, record)) ?? record;
  const speed = record.gops === undefined ? "" : `${record.gops.toFixed(1).padStart(8)} Gop/s`;
  const audio = record.rtfx === undefined ? "" : `${record.rtfx.toFixed(0).padStart(6)} RTFx`;
  const share = record.share === undefined ? "" : `${(100 * record.share).toFixed(0).padStart(4)} % of ceiling`;
  const memory = record.peakBytes === undefined ? "" : `${(record.peakBytes / 2 ** 20).toFixed(1).padStart(6)} MiB`;
  const range = `${record.ms_min.toFixed(3)}..${record.ms_max.toFixed(3)}`;
  return [
    record.case.padEnd(34),
    `${record.threads} thr`,
    record.impl.padEnd(24),
    record.spec.padEnd(12),
    `${record.ms.toFixed(3).padStart(10)} ms`,
    `${(first.ms / record.ms).toFixed(2).padStart(6)}x`,
    speed + audio + share,
    memory,
    ` (${range}, ${record.runs} runs)`,
    record.note ?? "",
  ]
    .join(" ")
    .trimEnd();
}
