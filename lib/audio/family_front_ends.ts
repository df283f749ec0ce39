/** The front end of each family of models, by the `model_type` of its `config.json`. Knows nothing of networks, which take long to load. */
import type { JsonObject } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import type { FrontEnd } from "./front_end.js";
import { kaldiFeaturesFrom } from "./kaldi_features.js";
import { LogMel } from "./log_mel.js";
import { cohereFeaturesFrom, parakeetFeaturesFrom } from "./parakeet_features.js";
import { rawSamplesFrom } from "./raw_samples.js";
import { whisperFeaturesFrom } from "./whisper_features.js";

/** Each throws UsmLiteError BAD_CONFIG for a `preprocessor_config.json` that the family cannot honour. */
export const frontEnds = {
  lasr_ctc: (preprocessor, source) => LogMel.fromJson(preprocessor, source),
  parakeet_ctc: parakeetFeaturesFrom,
  parakeet_rnnt: parakeetFeaturesFrom,
  parakeet_tdt: parakeetFeaturesFrom,
  wav2vec2: rawSamplesFrom,
  hubert: rawSamplesFrom,
  "wav2vec2-conformer": rawSamplesFrom,
  "wav2vec2-bert": kaldiFeaturesFrom,
  whisper: whisperFeaturesFrom,
  cohere_asr: cohereFeaturesFrom,
} as const satisfies Readonly<Record<string, (preprocessor: JsonObject, source: string) => FrontEnd>>;

/**
 * Of the model that a `config.json` describes.
 * @param source name of the `preprocessor_config.json`, for error messages
 * @throws UsmLiteError UNSUPPORTED_MODEL, BAD_CONFIG
 */
export function frontEndOf(config: JsonObject, preprocessor: JsonObject, source: string): FrontEnd {
  const type = config["model_type"];
  if (typeof type === "string" && Object.hasOwn(frontEnds, type)) return frontEnds[type as keyof typeof frontEnds](preprocessor, source);
  throw new UsmLiteError("UNSUPPORTED_MODEL", `model_type ${JSON.stringify(type)} has no front end here`);
}
