/** `layers.jsonl` of a run: what its one-shot stages did to each layer. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { appendText, writeTextFile } from "../checkpoint/atomic_file.js";
import { readTextFile } from "../checkpoint/json_file.js";
import type { LayerRecord } from "./modifier.js";

/** A line of `layers.jsonl`. */
export interface StageRecord extends LayerRecord {
  readonly stage: string;
  readonly modifier: string;
}

const pathIn = (run: string): string => join(run, "layers.jsonl");

/** Appends what a stage does; lines that an earlier, unfinished run of the same stage left go. */
export class StageLog {
  constructor(
    private readonly run: string,
    private readonly stage: string,
  ) {
    const earlier = readStageLog(run);
    const others = earlier.filter((record) => record.stage !== stage);
    if (others.length < earlier.length) writeTextFile(pathIn(run), others.map((record) => `${JSON.stringify(record)}\n`).join(""));
  }

  write(modifier: string, layer: LayerRecord): void {
    appendText(pathIn(this.run), `${JSON.stringify({ stage: this.stage, modifier, ...layer })}\n`);
  }
}

/** All lines; one that a crash cut off is left out. */
export function readStageLog(run: string): readonly StageRecord[] {
  if (!existsSync(pathIn(run))) return [];
  return readTextFile(pathIn(run), "FILE_UNREADABLE")
    .split("\n")
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as StageRecord];
      } catch {
        return [];
      }
    });
}
