/** Whether the stages of a recipe that train can do so on a GPU. */
import { checkTrainableOnGpu } from "../models/device_training.js";
import type { PlannedStage } from "./compression_plan.js";
import { modifierError, type Modifier } from "./modifier.js";

/**
 * @param folder of the model, for messages
 * @throws UsmLiteError UNSUPPORTED_MODEL for a network that the GPU does not train; UNSUPPORTED_SPEC, with the line of the recipe, for a
 * modifier
 */
export function checkGpuTraining(stages: readonly PlannedStage[], network: unknown, folder: string): void {
  const trained = stages.filter(({ stage }) => stage.training);
  if (trained.length > 0) checkTrainableOnGpu(network, folder);
  for (const { weights, plan } of trained) {
    for (const [modifier, names] of weights) {
      if (modifier.train && names.length > 0)
        checkModifier(
          modifier,
          names.flatMap((name) => plan.get(name) ?? []),
        );
    }
  }
}

function checkModifier(modifier: Modifier, specs: Parameters<NonNullable<Modifier["checkGpu"]>>[0]): void {
  try {
    modifier.checkGpu?.(specs);
  } catch (cause) {
    throw modifierError(modifier, cause);
  }
}
