/** An adapter of one speaker from a few minutes of speech. */
import type { Utterance } from "../data/manifest.js";
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "../models/model_folder.js";
import { transcriptEncoder } from "../models/transcript_encoder.js";
import { Recognizer } from "../transcribe/recognizer.js";
import { scaledAdapter, stackAdapters, type Adapter } from "./adapter.js";
import { AdapterBase } from "./adapter_base.js";
import { resolvedSettings, settingsFor, type AdapterSettings } from "./adapter_settings.js";
import { selectLayers } from "./adaptable_layers.js";
import { confidentTranscripts } from "./confident_transcripts.js";
import { crossValidate, learnFrom } from "./cross_validation.js";
import type { HeldOutResult } from "./held_out.js";
import { learningNetwork } from "./learning_network.js";
import { spokenTexts } from "./speaker_speech.js";

/** Settings of {@link adaptSpeaker}. */
export interface AdaptSpeakerOptions extends AdapterSettings {
  /** Of many speakers, below the one that is learned; it stays as it is. */
  readonly shared?: Adapter | undefined;
  /** Learn from what the model itself hears with confidence; transcripts are not looked at. */
  readonly unsupervised?: boolean;
  /**
   * Code such as "en" of what is said; sequence-to-sequence models of several languages must be told, others take none but the one that they
   * were loaded for.
   */
  readonly language?: string | undefined;
  readonly onStatus?: (sentence: string) => void;
}

/** What {@link adaptSpeaker} learned from, and what it gained on utterances held out. */
export interface AdaptationReport {
  readonly utterances: number;
  readonly seconds: number;
  /** Those whose transcript was not trusted; 0 when transcripts are given. */
  readonly unsure: number;
  /** Epochs that were tried. */
  readonly epochs: number;
  /** Those that the adapter learned for. */
  readonly bestEpoch: number;
  /** The model as it is, on all utterances. */
  readonly base: HeldOutResult;
  /** What was kept, on all utterances, each heard with what was learned from others. */
  readonly adapted: HeldOutResult;
  /** What the adapter holds: `base` when nothing that was learned is better than the model as it is. */
  readonly kept: "speaker" | "shared" | "base";
  /** Where it learned. */
  readonly device: "cpu" | "cuda";
  /** Wall time of learning. */
  readonly trainingSeconds: number;
}

/**
 * Learns an adapter. By cross-validation, every fifth utterance held out in turn, it is found how long to learn, and whether
 * what was learned helps: unless the held-out loss falls and the held-out words are no worse, the adapter adds nothing. Then it
 * is learned from all utterances. All of this happens where the model is. The same speech, settings, device and number of threads give the same adapter.
 * @returns the adapter, on the CPU, `shared` included; the caller disposes of it
 * @throws UsmLiteError INVALID_ARGUMENT with fewer than two utterances, a pattern that matches no layer, or a language that the
 *   model does not know or lacks; UNSUPPORTED_MODEL for a model that the GPU does not train where it is there; OUT_OF_MEMORY;
 *   BAD_MANIFEST, for several speakers too; BAD_AUDIO, TRAINING_DIVERGED
 *
 * @example
 * const model = loadModel("packed");
 * const { adapter, report } = await adaptSpeaker(model, readManifest("ann.jsonl"));
 * writeAdapter("adapters/ann", adapter, new AdapterBase(model), { dropout: adapterDefaults.dropout, training: {} });
 */
export async function adaptSpeaker(
  model: SpeechModel,
  utterances: readonly Utterance[],
  options: AdaptSpeakerOptions = {},
): Promise<{ adapter: Adapter; report: AdaptationReport }> {
  const { layers: allLayers } = new AdapterBase(model);
  selectLayers(allLayers, resolvedSettings(options).targets); // a wrong setting is told before anything is heard
  checkOneSpeaker(utterances);
  const { shared, language, onStatus = () => {} } = options;
  transcriptEncoder(model, language); // so is a wrong language
  using learner = learningNetwork(model);
  const recognizer = new Recognizer(model, language === undefined ? {} : { language });
  const { spoken, unsure } = options.unsupervised
    ? await confidentTranscripts(recognizer, utterances, { adapter: shared, language, onStatus })
    : { spoken: await spokenTexts(model, utterances, { language, onStatus }), unsure: 0 };
  const seconds = spoken.reduce((sum, utterance) => sum + utterance.seconds, 0);
  const settings = resolvedSettings(settingsFor(seconds, options));
  const layers = selectLayers(allLayers, settings.targets);
  const learning = { learner, recognizer, layers, spoken, shared, settings, onStatus };

  const started = performance.now();
  const { base, ofShared, ofSpeaker, epochs, bestEpoch } = crossValidate(learning);
  const helps = (result: HeldOutResult | undefined): result is HeldOutResult =>
    result !== undefined && result.loss < base.loss && result.wer <= base.wer;
  // The speaker's own part is worth its memory only where it is better than the shared one alone.
  const speakerHelps = helps(ofSpeaker) && !(helps(ofShared) && ofShared.loss <= ofSpeaker.loss);
  const [kept, adapted] = speakerHelps
    ? (["speaker", ofSpeaker] as const)
    : helps(ofShared)
      ? (["shared", ofShared] as const)
      : (["base", base] as const);
  using own = learnFrom(learning, kept === "speaker" ? bestEpoch : 0);
  const trainingSeconds = (performance.now() - started) / 1000;
  const adapter =
    kept === "base" || !shared ? scaledAdapter(own, 1) : kept === "speaker" ? stackAdapters([shared, own]) : scaledAdapter(shared, 1);
  return {
    adapter,
    report: { utterances: spoken.length, seconds, unsure, epochs, bestEpoch, base, adapted, kept, device: learner.device, trainingSeconds },
  };
}

/** What several voices have in common is no adapter of either. Utterances that name no speaker are taken to be of the same one. */
function checkOneSpeaker(utterances: readonly Utterance[]): void {
  const speakers = [...new Set(utterances.flatMap(({ speaker }) => (speaker === undefined ? [] : [speaker])))];
  if (speakers.length < 2) return;
  throw new UsmLiteError(
    "BAD_MANIFEST",
    `the speech is of ${speakers.length} speakers, "${speakers[0]}" and "${speakers[1]}" among them; an adapter of one speaker needs a manifest ` +
      "of that speaker alone, one that all share is learned with --speakers (adaptSpeakers)",
  );
}
