/** When masks are recomputed during training (the sparsity modes of google/praxis). Until the first time nothing is pruned. */
import { UsmLiteError } from "../errors.js";

/**
 * - `one-shot`: once, at `step`.
 * - `few-shot`: at `start`, `start + interval`, .. `shots` times.
 * - `every-step`: at each step from `start` on.
 * - `frozen`: never; masks come from the checkpoint.
 */
export type MaskSchedule =
  | { readonly kind: "one-shot"; readonly step: number }
  | { readonly kind: "few-shot"; readonly shots: number; readonly interval: number; readonly start: number }
  | { readonly kind: "every-step"; readonly start: number }
  | { readonly kind: "frozen" };

/**
 * Refuses a schedule that no training could follow.
 * @throws UsmLiteError INVALID_ARGUMENT for negative or fractional steps, or fewer than one shot or step between shots
 *
 * @example
 * checkMaskSchedule({ kind: "few-shot", start: 0, shots: 2, interval: 100 });
 */
export function checkMaskSchedule(schedule: MaskSchedule): void {
  const require = (name: string, value: number, minimum: number): void => {
    if (Number.isSafeInteger(value) && value >= minimum) return;
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `${schedule.kind} mask schedule: ${name} is ${value}; it must be a whole number from ${minimum}`,
    );
  };
  if (schedule.kind === "one-shot") require("step", schedule.step, 0);
  if (schedule.kind === "every-step") require("start", schedule.start, 0);
  if (schedule.kind === "few-shot") {
    require("shots", schedule.shots, 1);
    require("interval", schedule.interval, 1);
    require("start", schedule.start, 0);
  }
}

/**
 * Whether masks are recomputed from the weights before step `step` (counted from 0).
 *
 * @example
 * recomputesMask({ kind: "few-shot", start: 0, shots: 2, interval: 100 }, 100); // true: the second shot
 */
export function recomputesMask(schedule: MaskSchedule, step: number): boolean {
  switch (schedule.kind) {
    case "one-shot":
      return step === schedule.step;
    case "few-shot": {
      const since = step - schedule.start;
      return since >= 0 && since % schedule.interval === 0 && since / schedule.interval < schedule.shots;
    }
    case "every-step":
      return step >= schedule.start;
    case "frozen":
      return false;
  }
}

/**
 * Whether step `step` runs on pruned weights.
 *
 * @example
 * isPruned({ kind: "one-shot", step: 500 }, 499); // false
 */
export function isPruned(schedule: MaskSchedule, step: number): boolean {
  switch (schedule.kind) {
    case "one-shot":
      return step >= schedule.step;
    case "few-shot":
    case "every-step":
      return step >= schedule.start;
    case "frozen":
      return true;
  }
}

/**
 * The first step from which masks no longer change; undefined when they always may.
 *
 * @example
 * maskFrozenFrom({ kind: "few-shot", start: 0, shots: 2, interval: 100 }); // 101
 */
export function maskFrozenFrom(schedule: MaskSchedule): number | undefined {
  switch (schedule.kind) {
    case "one-shot":
      return schedule.step + 1;
    case "few-shot":
      return schedule.start + (schedule.shots - 1) * schedule.interval + 1;
    case "every-step":
      return undefined;
    case "frozen":
      return 0;
  }
}

/**
 * How much of the way to the full sparsity a few-shot schedule has gone with the mask of step `step`, evenly from shot to shot:
 * 1 / shots at the first, 1 at the last. Of other schedules 1. (Structure decay, arXiv 2209.07617.)
 *
 * @example
 * gradualShare({ kind: "few-shot", start: 0, shots: 2, interval: 100 }, 0); // 0.5
 */
export function gradualShare(schedule: MaskSchedule, step: number): number {
  if (schedule.kind !== "few-shot") return 1;
  const shot = Math.floor((step - schedule.start) / schedule.interval);
  return Math.min(1, (Math.max(shot, 0) + 1) / schedule.shots);
}
