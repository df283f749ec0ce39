/** Timing of several implementations of the same work in turn, so that whatever else the machine does meets them all. */
import { setTimeout as sleep } from "node:timers/promises";

export interface Contestant {
  /** "usm-lite", or the peer's name with version. */
  impl: string;
  /** How the weight is coded. */
  spec: string;
  note?: string;
  /** Does the work `repetitions` times and returns the milliseconds that each took. */
  run(repetitions: number): number[] | Promise<number[]>;
  /** Called when the case is over. */
  dispose?(): void;
}

export interface Timing {
  ms: number;
  ms_min: number;
  ms_max: number;
  runs: number;
}

export interface MeasureOptions {
  /** Turns that each contestant gets. */
  rounds?: number;
  /** Length of a turn. */
  millisecondsPerTurn?: number;
  /** Pause before a turn; threads of a contestant that wait for work by spinning have gone to sleep after 30, the default. */
  millisecondsBetween?: number;
}

const LARGEST_TURN = 2000;

/** Lets each contestant work in turn, `rounds` times. Results are in the order of `contestants`. */
export async function measureInTurn(
  contestants: readonly Contestant[],
  { rounds = 25, millisecondsPerTurn = 25, millisecondsBetween = 30 }: MeasureOptions = {},
): Promise<Timing[]> {
  const times = contestants.map((): number[] => []);
  const repetitions: number[] = [];
  for (const contestant of contestants) {
    await contestant.run(1); // the first run touches memory and wakes threads
    const estimate = median(await contestant.run(3));
    repetitions.push(Math.min(LARGEST_TURN, Math.max(1, Math.round(millisecondsPerTurn / Math.max(estimate, 1e-3)))));
  }
  for (let round = 0; round < rounds; round++) {
    for (const [index, contestant] of contestants.entries()) {
      await sleep(millisecondsBetween);
      await contestant.run(1);
      times[index]?.push(...(await contestant.run(repetitions[index] as number)));
    }
  }
  for (const contestant of contestants) contestant.dispose?.();
  return times.map((values) => ({
    ms: median(values),
    ms_min: Math.min(...values),
    ms_max: Math.max(...values),
    runs: values.length,
  }));
}

/** Times `work` in this process. */
export function timed(work: () => void, repetitions: number): number[] {
  return Array.from({ length: repetitions }, () => {
    const begin = performance.now();
    work();
    return performance.now() - begin;
  });
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle) - 1] as number)) / 2;
}
