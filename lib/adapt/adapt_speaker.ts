/** An adapter of one speaker from a few minutes of speech. */
import type { Utterance } from "../data/manifest.js";
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "../models/model_folder.js";
import { trainableNetwork } from "../models/trainable.js";
import { wordErrorRate } from "../text/word_error_rate.js";
import { Recognizer } from "../transcribe/recognizer.js";
import { freshAdapter, scaledAdapter, stackAdapters, type Adapter } from "./adapter.js";
import { AdapterBase } from "./adapter_base.js";
import { resolvedSettings, type AdapterSettings } from "./adapter_settings.js";
import { AdapterTraining } from "./adapter_training.js";
import { selectLayers } from "./adaptable_layers.js";
import { confidentTranscripts } from "./confident_transcripts.js";
import { spokenTexts, type SpokenText } from "./speaker_speech.js";

export interface AdaptSpeakerOptions extends AdapterSettings {
  /** Of many speakers, below the one that is learned; it stays as it is. */
  readonly shared?: Adapter | undefined;
  /** Learn from what the model itself hears with confidence; transcripts are not looked at. */
  readonly unsupervised?: boolean;
  readonly onStatus?: (sentence: string) => void;
}

/** On speech that was not learned from. */
export interface HeldOutResult {
  /** Mean CTC loss. */
  readonly loss: number;
  readonly wer: number;
}

export interface AdaptationReport {
  readonly utterances: number;
  readonly seconds: number;
  readonly heldOutUtterances: number;
  /** Those whose transcript was not trusted; 0 when transcripts are given. */
  readonly unsure: number;
  readonly epochs: number;
  readonly bestEpoch: number;
  readonly base: HeldOutResult;
  readonly adapted: HeldOutResult;
  /** What the adapter holds: `base` when nothing that was learned is better than the model as it is. */
  readonly kept: "speaker" | "shared" | "base";
  /** Wall time of learning. */
  readonly trainingSeconds: number;
}

/**
 * Learns an adapter. Every fifth utterance is held out: learning stops when its loss no longer falls, and where neither its
 * loss nor its words say that the adapter is better, the adapter adds nothing. The same speech, settings and number of
 * threads give the same adapter.
 * @returns the adapter, `shared` included; the caller disposes of it
 * @throws UsmLiteError INVALID_ARGUMENT with fewer than two utterances or a pattern that matches no layer; UNSUPPORTED_MODEL
 *   for a family that cannot be trained; BAD_MANIFEST, BAD_AUDIO, TRAINING_DIVERGED
 */
export async function adaptSpeaker(
  model: SpeechModel,
  utterances: readonly Utterance[],
  options: AdaptSpeakerOptions = {},
): Promise<{ adapter: Adapter; report: AdaptationReport }> {
  const settings = resolvedSettings(options);
  const { shared, onStatus = () => {} } = options;
  const network = trainableNetwork(model);
  const layers = selectLayers(new AdapterBase(model).layers, settings.targets);
  const recognizer = new Recognizer(model);
  const { spoken, unsure } = options.unsupervised
    ? await confidentTranscripts(recognizer, utterances, shared)
    : { spoken: await spokenTexts(model, utterances), unsure: 0 };
  const [learned, heldOut] = splitHeldOut(spoken);
  onStatus(`learning from ${learned.length} utterances, ${heldOut.length} held out`);

  const own = freshAdapter(layers, settings.rank, settings.seed);
  const training = new AdapterTraining(network, new Map([["speaker", own]]), model.frontEnd.config.featureSize, settings);
  const started = performance.now();
  const { best, epochs, bestEpoch } = learn(training, own, { learned, heldOut, shared, settings, onStatus });
  const trainingSeconds = (performance.now() - started) / 1000;

  const measure = (adapter: Adapter): HeldOutResult => ({
    loss: training.loss(heldOut, [{ adapter, learns: false }]),
    wer: heldOutWer(recognizer, heldOut, adapter),
  });
  // What adds nothing comes first: it must be beaten in loss, and not be better in words.
  const [silent, ...candidates]: [Candidate, ...Candidate[]] = [
    { kept: "base", adapter: scaledAdapter(best, 0) },
    { kept: "speaker", adapter: shared ? stackAdapters([shared, best]) : scaledAdapter(best, 1) },
    ...(shared ? [{ kept: "shared" as const, adapter: scaledAdapter(shared, 1) }] : []),
  ];
  const base = measure(silent.adapter);
  let chosen = { ...silent, result: base };
  for (const candidate of candidates) {
    const result = measure(candidate.adapter);
    const better = result.loss < chosen.result.loss && result.wer <= base.wer;
    (better ? chosen : candidate).adapter.dispose();
    if (better) chosen = { ...candidate, result };
  }
  best.dispose();
  own.dispose();
  training.dispose();
  const seconds = spoken.reduce((sum, utterance) => sum + utterance.seconds, 0);
  return {
    adapter: chosen.adapter,
    report: {
      ...{ utterances: spoken.length, seconds, heldOutUtterances: heldOut.length, unsure, epochs, bestEpoch },
      ...{ base, adapted: chosen.result, kept: chosen.kept, trainingSeconds },
    },
  };
}

interface Candidate {
  readonly kept: AdaptationReport["kept"];
  readonly adapter: Adapter;
}

/** Epochs until the held-out loss has not fallen for a while; `best` has the scale of training in its factors. */
function learn(
  training: AdapterTraining,
  own: Adapter,
  { learned, heldOut, shared, settings, onStatus }: {
    learned: readonly SpokenText[];
    heldOut: readonly SpokenText[];
    shared: Adapter | undefined;
    settings: ReturnType<typeof resolvedSettings>;
    onStatus: (sentence: string) => void;
  },
): { best: Adapter; epochs: number; bestEpoch: number } {
  const adapters = [...(shared ? [{ adapter: shared, learns: false }] : []), { adapter: own, learns: true }];
  let best = scaledAdapter(own, settings.scale);
  let bestLoss = training.loss(heldOut, adapters);
  let bestEpoch = 0;
  let epoch = 0;
  while (epoch < settings.epochs && epoch < bestEpoch + settings.patience) {
    const loss = training.epoch(learned, adapters, settings.learningRate * (1 - (0.9 * epoch) / settings.epochs));
    epoch++;
    const heldOutLoss = training.loss(heldOut, adapters);
    onStatus(`epoch ${epoch}: loss ${loss.toFixed(3)}, held out ${heldOutLoss.toFixed(3)}`);
    if (heldOutLoss >= bestLoss) continue;
    best.dispose();
    best = scaledAdapter(own, settings.scale);
    [bestLoss, bestEpoch] = [heldOutLoss, epoch];
  }
  return { best, epochs: epoch, bestEpoch };
}

/** Every fifth utterance, one at least, is held out. */
function splitHeldOut(spoken: readonly SpokenText[]): [learned: SpokenText[], heldOut: SpokenText[]] {
  if (spoken.length < 2) {
    throw new UsmLiteError("INVALID_ARGUMENT", `there is ${spoken.length === 0 ? "no utterance" : "one utterance"} to learn from; give two at least, of which one is held out`);
  }
  const isHeldOut = (index: number): boolean => index % 5 === Math.min(4, spoken.length - 1);
  return [spoken.filter((_, index) => !isHeldOut(index)), spoken.filter((_, index) => isHeldOut(index))];
}

function heldOutWer(recognizer: Recognizer, heldOut: readonly SpokenText[], adapter: Adapter): number {
  const texts = recognizer.transcribeBatch(heldOut.map(({ samples }) => samples), undefined, adapter);
  return wordErrorRate(heldOut.map(({ text }, index) => ({ reference: text, hypothesis: (texts[index] as { text: string }).text }))).rate;
}
