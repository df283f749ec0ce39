/** How long to learn from a little speech, and whether it helps: every utterance is heard with what was learned from others. */
import { UsmLiteError } from "../errors.js";
import type { Recognizer } from "../transcribe/recognizer.js";
import { freshAdapter, scaledAdapter, stackAdapters, type Adapter } from "./adapter.js";
import type { ResolvedAdapterSettings } from "./adapter_settings.js";
import { AdapterTraining, type TrainedAdapter } from "./adapter_training.js";
import { heldOutTexts, paired, textErrorRate, type HeldOutResult } from "./held_out.js";
import type { LearningNetwork } from "./learning_network.js";
import type { SpokenText } from "./speaker_speech.js";

/** What is learned, from what and how. */
export interface SpeakerLearning {
  readonly learner: LearningNetwork;
  readonly recognizer: Recognizer;
  /** (out, in) by weight name. */
  readonly layers: ReadonlyMap<string, readonly [out: number, input: number]>;
  readonly spoken: readonly SpokenText[];
  readonly shared: Adapter | undefined;
  readonly settings: ResolvedAdapterSettings;
  readonly onStatus: (sentence: string) => void;
}

export interface CrossValidation {
  readonly base: HeldOutResult;
  /** The shared adapter alone, where there is one. */
  readonly ofShared: HeldOutResult | undefined;
  /** After `bestEpoch` epochs; absent where none was better than none. */
  readonly ofSpeaker: HeldOutResult | undefined;
  readonly epochs: number;
  readonly bestEpoch: number;
}

const maximumFolds = 5;

/** One part of the speech, held out of the others. */
class Fold {
  private readonly own: Adapter;
  private readonly training: AdapterTraining;
  private readonly adapters: readonly TrainedAdapter[];
  private best: Adapter | undefined;

  constructor(
    { learner: { network, device }, recognizer, layers, shared, settings }: SpeakerLearning,
    private readonly learned: readonly SpokenText[],
    readonly heldOut: readonly SpokenText[],
  ) {
    this.own = freshAdapter(layers, settings.rank, settings.seed, device);
    this.training = new AdapterTraining(network, new Map([["speaker", this.own]]), recognizer.model.frontEnd.config.featureSize, settings);
    this.adapters = [...(shared ? [{ adapter: shared, learns: false }] : []), { adapter: this.own, learns: true }];
  }

  learn(learningRate: number): void {
    this.training.epoch(this.learned, this.adapters, learningRate);
  }

  /** Of all held-out utterances together. */
  loss(adapters = this.adapters): number {
    return this.training.loss(this.heldOut, adapters) * this.heldOut.length;
  }

  /** Remembers what was learned up to here. */
  keep(scale: number): void {
    this.best?.dispose();
    this.best = scaledAdapter(this.own, scale);
  }

  /** With what was remembered. */
  texts(recognizer: Recognizer, shared: Adapter | undefined): string[] {
    if (!this.best) return heldOutTexts(recognizer, this.heldOut, shared);
    using stacked = stackAdapters(shared ? [shared, this.best] : [this.best]);
    return heldOutTexts(recognizer, this.heldOut, stacked);
  }

  dispose(): void {
    for (const adapter of [this.own, this.best]) adapter?.dispose();
    this.training.dispose();
  }
}

/** @throws UsmLiteError INVALID_ARGUMENT with fewer than two utterances */
export function crossValidate(learning: SpeakerLearning): CrossValidation {
  const { spoken, shared, settings, recognizer, onStatus } = learning;
  if (spoken.length < 2) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `there is ${spoken.length === 0 ? "no utterance" : "one utterance"} to learn from; give two at least, of which one is held out`,
    );
  }
  const count = Math.min(maximumFolds, spoken.length);
  const folds = Array.from({ length: count }, (_, fold) => {
    const [learned, heldOut] = [false, true].map((wanted) => spoken.filter((_, index) => (index % count === fold) === wanted)) as [
      SpokenText[],
      SpokenText[],
    ];
    return new Fold(learning, learned, heldOut);
  });
  const meanLoss = (adapters?: readonly TrainedAdapter[]): number =>
    folds.reduce((sum, fold) => sum + fold.loss(adapters), 0) / spoken.length;
  const wer = (textsOf: (fold: Fold) => string[]): number => textErrorRate(folds.flatMap((fold) => paired(fold.heldOut, textsOf(fold))));
  const base = { loss: meanLoss([]), wer: wer((fold) => heldOutTexts(recognizer, fold.heldOut, undefined)) };
  const ofShared = shared && {
    loss: meanLoss([{ adapter: shared, learns: false }]),
    wer: wer((fold) => heldOutTexts(recognizer, fold.heldOut, shared)),
  };
  let best = { epoch: 0, loss: (ofShared ?? base).loss };
  let epoch = 0;
  while (epoch < settings.epochs && epoch < best.epoch + settings.patience) {
    for (const fold of folds) fold.learn(learningRateOf(settings, epoch));
    epoch++;
    const loss = meanLoss();
    onStatus(`epoch ${epoch}: held-out loss ${loss.toFixed(4)}, best before ${best.loss.toFixed(4)}`);
    if (loss >= best.loss) continue;
    best = { epoch, loss };
    for (const fold of folds) fold.keep(settings.scale);
  }
  const ofSpeaker = best.epoch > 0 ? { loss: best.loss, wer: wer((fold) => fold.texts(recognizer, shared)) } : undefined;
  for (const fold of folds) fold.dispose();
  return { base, ofShared, ofSpeaker, epochs: epoch, bestEpoch: best.epoch };
}

/** An adapter of the speaker alone after so many epochs over all speech, the scale of learning in its factors. 0 epochs: it adds nothing. */
export function learnFrom(
  { learner: { network, device }, recognizer, layers, spoken, shared, settings }: SpeakerLearning,
  epochs: number,
): Adapter {
  const own = freshAdapter(layers, settings.rank, settings.seed, device);
  const training = new AdapterTraining(network, new Map([["speaker", own]]), recognizer.model.frontEnd.config.featureSize, settings);
  const adapters = [...(shared ? [{ adapter: shared, learns: false }] : []), { adapter: own, learns: true }];
  for (let epoch = 0; epoch < epochs; epoch++) training.epoch(spoken, adapters, learningRateOf(settings, epoch));
  const scaled = scaledAdapter(own, settings.scale);
  training.dispose();
  own.dispose();
  return scaled;
}

const learningRateOf = ({ learningRate, epochs }: ResolvedAdapterSettings, epoch: number): number =>
  learningRate * (1 - (0.9 * epoch) / epochs);
