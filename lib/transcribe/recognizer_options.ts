/** What a recognizer, and one recording, may ask for. */
import type { Adapter } from "../adapt/adapter.js";
import type { HotwordScorer } from "../decode/hotword_scorer.js";
import type { LanguageModelWeights } from "../decode/language_model_scorer.js";
import type { OptionNames } from "../known_options.js";
import type { WeightForm } from "../models/checkpoint_weights.js";
import type { loadModel } from "../models/model_folder.js";
import type { WindowDecodingOptions } from "./window_decoding.js";

/** How recordings are decoded, by all means of recognition. */
export interface RecognizerOptions extends Pick<WindowDecodingOptions, "language" | "task"> {
  /** `beam` uses the model's language model when it has one, and is the default then; else `greedy`. */
  readonly decoder?: "greedy" | "beam";
  /** Hypotheses kept by the beam search; default 32. */
  readonly beamWidth?: number;
  /** Weight of the language model and bonus for each word; default: what the model folder says. */
  readonly languageModelWeights?: LanguageModelWeights;
  /** `float32` unpacks compressed weights first, to compare. */
  readonly weights?: WeightForm;
  /** Where the encoder computes, as {@link loadModel} says; "cpu" by default. */
  readonly device?: "auto" | "cpu" | "cuda";
  /** How packed layers multiply on the GPU, as {@link loadModel} says; "bfloat16" by default. */
  readonly arithmetic?: "bfloat16" | "int8";
  /** Whether what the GPU makes of a recording does not depend on what else is in the batch, as {@link loadModel} says; true by default. */
  readonly batchInvariant?: boolean;
  /** Folder of an adapter for all recordings that do not ask for another; see docs/adaptation.md. */
  readonly adapter?: string;
}

export const recognizerOptionNames: OptionNames<RecognizerOptions> = {
  language: true,
  task: true,
  decoder: true,
  beamWidth: true,
  languageModelWeights: true,
  weights: true,
  device: true,
  arithmetic: true,
  batchInvariant: true,
  adapter: true,
};

/** What one recording may ask for. */
export interface RecordingOptions {
  /**
   * Phrases that are likely to be said ({@link HotwordScorer}). They make a greedy recognizer search with a beam for
   * this recording.
   */
  readonly hotwords?: readonly string[];
  /** The speaker whose adapter, of the folder of adapters, the model has for this recording; absent: none. */
  readonly speaker?: string;
}

/** The same, with the adapter in place of the speaker's name. */
export interface ResolvedRecordingOptions extends Omit<RecordingOptions, "speaker"> {
  /** In place of the recognizer's own; it must stay until the recording was recognized. */
  readonly adapter?: Adapter | undefined;
}
