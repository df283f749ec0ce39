/** Where a run trains, and how what the GPU has trained comes to the CPU, which writes models. */
import { gpuInformation, hasGpu } from "../device/gpu.js";
import { UsmLiteError } from "../errors.js";
import type { Trainer } from "./trainer.js";
import type { TrainingResult } from "./trainer_options.js";

/** `auto`: a GPU, where there is one and it can do all that the run asks for, and otherwise the CPU. */
export type TrainingDevice = "auto" | "cpu" | "cuda";

/**
 * @param check throws UsmLiteError UNSUPPORTED_MODEL or UNSUPPORTED_SPEC for a run that the GPU cannot do
 * @param onStatus told why `auto` passes a GPU over
 * @throws UsmLiteError what `check` throws, NO_GPU and DRIVER_TOO_OLD for `cuda`
 */
export function chooseTrainingDevice(wanted: TrainingDevice, check: () => void, onStatus: (sentence: string) => void): "cpu" | "cuda" {
  if (wanted === "cpu" || (wanted === "auto" && !hasGpu())) return "cpu";
  try {
    check();
  } catch (error) {
    const unsupported = error instanceof UsmLiteError && (error.code === "UNSUPPORTED_MODEL" || error.code === "UNSUPPORTED_SPEC");
    if (wanted === "cuda" || !unsupported) throw error;
    onStatus(`training on the CPU: ${error.message}`);
    return "cpu";
  }
  onStatus(`training on ${gpuInformation().name}`);
  return "cuda";
}

/** A trainer, and what else is to be released when it has trained. */
export interface PlacedTrainer {
  readonly trainer: Trainer;
  readonly release: () => void;
}

/** The same run on either device: what it trains, from where it stands. */
export interface TrainingRun {
  readonly cpu: () => Trainer;
  readonly gpu: () => PlacedTrainer;
  /** Whether a checkpoint in the folder of the run is gone on from. */
  readonly resume: boolean;
  /** Told the step that the run goes on from. */
  readonly onResume: (step: number) => void;
}

/**
 * Trains until the run is done or a signal stops it. Whatever the device, the trainer that is returned, to be disposed of, is on the CPU:
 * what the GPU has trained gets there by its last checkpoint, which is one of the CPU.
 */
export async function runTraining(
  device: "cpu" | "cuda",
  run: TrainingRun,
): Promise<{ readonly trainer: Trainer; readonly result: TrainingResult }> {
  const train = (trainer: Trainer): Promise<TrainingResult> => {
    if (run.resume && trainer.resume()) run.onResume(trainer.steps);
    return trainer.run({ handleSignals: true });
  };
  const placed = device === "cuda" ? await trainPlaced(run.gpu(), train) : undefined;
  const trainer = run.cpu();
  try {
    if (!placed) return { trainer, result: await train(trainer) };
    trainer.resume(placed.checkpoint);
    return { trainer, result: placed };
  } catch (error) {
    trainer.dispose();
    throw error;
  }
}

async function trainPlaced(
  { trainer, release }: PlacedTrainer,
  train: (trainer: Trainer) => Promise<TrainingResult>,
): Promise<TrainingResult> {
  try {
    return await train(trainer);
  } finally {
    trainer.dispose();
    release();
  }
}
