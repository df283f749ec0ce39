/** When masks are computed: keys that `sparsity` and `many-sizes` share. */
import { z } from "zod";
import type { MaskSchedule } from "../../sparse/schedule.js";

export const maskSchedules = ["one-shot", "few-shot", "every-step"] as const;

export const shotKeys = {
  /** First step that computes masks. */
  start: z.number().int().nonnegative().default(0),
  /** Of few-shot: how often, by default 4 times. */
  shots: z.number().int().positive().optional(),
  /** Of few-shot: steps from one to the next, by default 100. */
  interval: z.number().int().positive().optional(),
};

interface ScheduleSettings {
  readonly schedule: (typeof maskSchedules)[number];
  readonly start: number;
  readonly shots?: number | undefined;
  readonly interval?: number | undefined;
}

export function shotConflicts({ schedule, shots, interval }: ScheduleSettings): { shots: string | false; interval: string | false } {
  const others = "is for schedule: few-shot; leave it out";
  return {
    shots: schedule !== "few-shot" && shots !== undefined && `shots ${others}`,
    interval: schedule !== "few-shot" && interval !== undefined && `interval ${others}`,
  };
}

export function maskScheduleOf({ schedule, start, shots = 4, interval = 100 }: ScheduleSettings): MaskSchedule {
  if (schedule === "one-shot") return { kind: schedule, step: start };
  return schedule === "few-shot" ? { kind: schedule, start, shots, interval } : { kind: schedule, start };
}
