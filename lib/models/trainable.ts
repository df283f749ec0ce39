/** Which networks can be trained. */
import { UsmLiteError } from "../errors.js";
import type { TrainableModel } from "../train/trainable_model.js";
import type { SpeechModel } from "./model_folder.js";
import type { SpeechNetwork } from "./speech_network.js";

/** A network with a loss, whose weights are floats. */
export type TrainableNetwork = SpeechNetwork & TrainableModel;

/**
 * The network of a model, as one that can be trained: those of all families have a loss, whatever decoder they need.
 * @throws UsmLiteError UNSUPPORTED_MODEL for a network of another kind
 *
 * @example
 * const network = trainableNetwork(loadModel("parakeet-ctc-0.6b"));
 * const trainer = new Trainer(network, batches, { folder: "run", totalSteps: 500, schedule });
 */
export function trainableNetwork({ network, folder }: Pick<SpeechModel, "network" | "folder">): TrainableNetwork {
  if (isTrainable(network)) return network;
  throw new UsmLiteError(
    "UNSUPPORTED_MODEL",
    `${folder} is a ${network.kind} model, which cannot be trained; CTC and transducer models can. Without training it is compressed in one shot`,
  );
}

const isTrainable = (network: SpeechNetwork): network is TrainableNetwork => "loss" in network;
