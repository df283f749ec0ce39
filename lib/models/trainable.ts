/** Which networks can be trained. */
import { UsmLiteError } from "../errors.js";
import type { TrainableModel } from "../train/trainable_model.js";
import type { SpeechModel } from "./model_folder.js";
import type { SpeechNetwork } from "./speech_network.js";

/** A network with a loss, whose weights are floats. */
export type TrainableNetwork = SpeechNetwork & TrainableModel;

/**
 * The network of a model, as one that can be trained: those of `lasr_ctc`, `parakeet_ctc`, `parakeet_rnnt`, `parakeet_tdt`, `wav2vec2`,
 * `hubert` and `wav2vec2-conformer`.
 * @throws UsmLiteError UNSUPPORTED_MODEL for the others
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
