/** What a run reports while it goes: JSON lines in a file, and a progress bar when someone watches. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import type { SingleBar } from "cli-progress";
import { appendText, writeTextFile } from "../checkpoint/atomic_file.js";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { readTextFile } from "../checkpoint/json_file.js";

/** One line of `metrics.jsonl`, after each step. */
export interface StepMetrics {
  /** Steps done so far, this one included. */
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  /** Global norm before clipping. */
  readonly gradientNorm: number;
  /** Seconds of audio trained on per second. */
  readonly audioPerSecond: number;
  /** Utterances left out because their transcript does not fit their frames. */
  readonly infeasible: number;
  /** Loss or gradients were not finite and the weights stayed as they were. */
  readonly skipped: boolean;
}

/** Appends metrics to a file. Numbers that are not finite become strings, which JSON has no other way to say. */
export class MetricsFile {
  /** Keeps the lines of steps up to `step`: what came after will be computed again. */
  constructor(
    private readonly path: string,
    step: number,
  ) {
    makeFolder(dirname(path));
    if (!existsSync(path)) return;
    const kept = readTextFile(path, "FILE_UNREADABLE")
      .split("\n")
      .filter((line) => stepOfLine(line) <= step);
    writeTextFile(path, kept.map((line) => `${line}\n`).join(""));
  }

  write(record: object): void {
    const text = JSON.stringify(record, (_, value: unknown) =>
      typeof value === "number" && !Number.isFinite(value) ? String(value) : value,
    );
    appendText(this.path, `${text}\n`);
  }
}

// A line cut off by a crash has no step and is dropped.
function stepOfLine(line: string): number {
  try {
    return (JSON.parse(line) as { step?: number }).step ?? Infinity;
  } catch {
    return Infinity;
  }
}

/** A progress bar on stderr, only when that is a terminal. */
export class TrainingProgress {
  private readonly bar: SingleBar | undefined;

  constructor(totalSteps: number, step: number) {
    if (!process.stderr.isTTY) return;
    const progress = createRequire(import.meta.url)("cli-progress") as typeof import("cli-progress");
    this.bar = new progress.SingleBar({
      format: "{bar} {value}/{total} steps, epoch {epoch}, loss {loss}, {speed}x real time, {eta_formatted} left",
      stream: process.stderr,
      etaBuffer: 100,
    });
    this.bar.start(totalSteps, step, { epoch: "-", loss: "-", speed: "-" });
  }

  update(metrics: StepMetrics): void {
    this.bar?.update(metrics.step, {
      epoch: metrics.epoch,
      loss: metrics.loss.toFixed(3),
      speed: metrics.audioPerSecond.toFixed(0),
    });
  }

  stop(): void {
    this.bar?.stop();
  }
}
