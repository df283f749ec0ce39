/** Learning rate schedules: pure functions of the step. */
import { UsmLiteError } from "../errors.js";

/** Learning rate by the number of steps taken so far. */
export type LearningRateSchedule = (step: number) => number;

interface WarmUp {
  /** Highest learning rate, reached at the end of the warm-up. */
  readonly peak: number;
  /** Steps over which the rate rises linearly from `peak / warmupSteps`. */
  readonly warmupSteps: number;
}

/**
 * Linear warm-up, then half a cosine down to `final` (default 0) at `totalSteps`, and `final` from there on.
 * @throws UsmLiteError INVALID_ARGUMENT for a peak that is not positive, or a warm-up that is no whole number of steps
 *
 * @example
 * const schedule = warmupCosine({ peak: 3e-4, warmupSteps: 50, totalSteps: 1000 });
 * schedule(50); // 3e-4
 */
export function warmupCosine(options: WarmUp & { totalSteps: number; final?: number }): LearningRateSchedule {
  const { peak, warmupSteps, totalSteps, final = 0 } = options;
  check(options);
  if (!(totalSteps > warmupSteps)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `totalSteps is ${totalSteps}; it must exceed warmupSteps, ${warmupSteps}`);
  }
  return (step) => {
    if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
    const progress = Math.min(1, (step - warmupSteps) / (totalSteps - warmupSteps));
    return final + (peak - final) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
}

/**
 * Linear warm-up, then decay with the inverse square root of the step (Vaswani et al., 2017), not below `final`.
 * @throws UsmLiteError INVALID_ARGUMENT as {@link warmupCosine}
 *
 * @example
 * warmupInverseSquareRoot({ peak: 1e-3, warmupSteps: 100 })(399); // 5e-4
 */
export function warmupInverseSquareRoot(options: WarmUp & { final?: number }): LearningRateSchedule {
  const { peak, warmupSteps, final = 0 } = options;
  check(options);
  const start = Math.max(warmupSteps, 1);
  return (step) => {
    if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
    return Math.max(final, peak * Math.sqrt(start / Math.max(step + 1, start)));
  };
}

/**
 * Linear warm-up, then `peak`.
 * @throws UsmLiteError INVALID_ARGUMENT as {@link warmupCosine}
 *
 * @example
 * warmupConstant({ peak: 1e-3, warmupSteps: 100 })(49); // 5e-4
 */
export function warmupConstant(options: WarmUp): LearningRateSchedule {
  const { peak, warmupSteps } = options;
  check(options);
  return (step) => (step < warmupSteps ? (peak * (step + 1)) / warmupSteps : peak);
}

/**
 * `schedule`, times a factor that falls linearly from 1 to 0 over the last `share` of `totalSteps`. Until the cool-down
 * begins nothing depends on `totalSteps`, so a run can be made longer from any checkpoint before it
 * (Hägele et al., 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").
 * @throws UsmLiteError INVALID_ARGUMENT for a share outside of 0 to 1
 *
 * @example
 * withCoolDown(warmupConstant({ peak: 1e-3, warmupSteps: 100 }), { totalSteps: 1000, share: 0.2 })(900); // 5e-4
 */
export function withCoolDown(schedule: LearningRateSchedule, options: { totalSteps: number; share: number }): LearningRateSchedule {
  const { totalSteps, share } = options;
  if (!(share >= 0 && share <= 1)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `the share of the cool-down is ${share}; it must be from 0 to 1`);
  }
  const length = share * totalSteps;
  return (step) => schedule(step) * (length > 0 ? Math.min(1, Math.max(0, totalSteps - step) / length) : 1);
}

function check({ peak, warmupSteps }: WarmUp): void {
  if (!(peak > 0) || !Number.isFinite(peak)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `the peak learning rate is ${peak}; it must be positive`);
  }
  if (!Number.isInteger(warmupSteps) || warmupSteps < 0) {
    throw new UsmLiteError("INVALID_ARGUMENT", `warmupSteps is ${warmupSteps}; it must be a whole number from 0`);
  }
}
