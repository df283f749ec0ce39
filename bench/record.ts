/** What a benchmark produces. */

/** One implementation on one piece of work. Peers of a case share `case` and `shape`. */
export interface BenchmarkRecord {
  suite: string;
  case: string;
  /** "usm-lite", or the peer's name with version. */
  impl: string;
  /** How the weight is coded: "float32", "int4+2:4".. */
  spec: string;
  device: "cpu" | "cuda";
  threads: number;
  /** Result (m, n), summed over k. */
  shape?: { m: number; n: number; k: number };
  /** Median of the runs. */
  ms: number;
  ms_min: number;
  ms_max: number;
  runs: number;
  /** Thousand million operations per second at the median; a multiply-add counts as two. */
  gops?: number;
  /** Of what this GPU reaches at best, in memory traffic or arithmetic, whichever bounds the work: 1 is the ceiling. */
  share?: number;
  /** Seconds of audio that a second of work gets through, at the median. */
  rtfx?: number;
  /** Tensor memory at its highest during the work, weights included. */
  peakBytes?: number;
  /** Tensor memory of the weights alone, as they lie in memory. */
  weightBytes?: number;
  /** Of requests to a server, in milliseconds; `ms` is the median too. */
  latency?: { p50: number; p95: number; p99: number };
  /** Requests with a transcript, refused because the queue was full, and failed in any other way. */
  requests?: { answered: number; refused: number; failed: number };
  /** Seconds of audio per second of processor time, of all processes that take part: does not depend on what else runs. */
  audioPerCpuSecond?: number;
  /** Resident memory of all processes of a server: after its first turn, after its last, and the most. */
  residentBytes?: { first: number; last: number; most: number };
  note?: string;
}

/** What `--json FILE` writes. */
export interface BenchmarkReport {
  machine: string;
  /** ISO 8601 */
  date: string;
  version: string;
  records: BenchmarkRecord[];
}

export interface BenchmarkContext {
  /** Thread counts to measure with. */
  threads: readonly number[];
  /** A line for the person who waits. */
  log(line: string): void;
  /** Called with every finished record, so that it can be shown at once. */
  record(record: BenchmarkRecord): void;
}

export interface BenchmarkSuite {
  readonly name: string;
  run(context: BenchmarkContext): Promise<void>;
}
