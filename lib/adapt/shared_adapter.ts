/**
 * An adapter that many speakers share, by speaker-adaptive training (Anastasakos et al., ICSLP 1996; with low-rank adapters PQM
 * does it): every speaker of the training speech has a small adapter of its own beside the shared one while that learns, which
 * takes up what is peculiar to each and is then thrown away.
 */
import type { Utterance } from "../data/manifest.js";
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "../models/model_folder.js";
import { transcriptEncoder } from "../models/transcript_encoder.js";
import { RandomStream } from "../ops/random_stream.js";
import { Recognizer } from "../transcribe/recognizer.js";
import { freshAdapter, scaledAdapter, type Adapter } from "./adapter.js";
import { AdapterBase } from "./adapter_base.js";
import { resolvedSettings, sharedDefaults, type AdapterSettings, type ResolvedAdapterSettings } from "./adapter_settings.js";
import { AdapterTraining } from "./adapter_training.js";
import { selectLayers } from "./adaptable_layers.js";
import type { AdaptationReport, AdaptSpeakerOptions } from "./adapt_speaker.js";
import { heldOutWer, type HeldOutResult } from "./held_out.js";
import { learningNetwork } from "./learning_network.js";
import { heardWhole, shuffledGroups, spokenTexts, type SpokenText } from "./speaker_speech.js";

/** Settings of {@link adaptSpeakers}. */
export interface SharedAdapterOptions extends AdapterSettings {
  /** Rank of the adapter that each speaker has meanwhile; default 1. */
  readonly speakerRank?: number;
  /** Minutes of each speaker that are learned from at most; default 1. Speech is held in memory: about 3 MB for a minute. */
  readonly minutesPerSpeaker?: number;
  /**
   * Speech of speakers to judge by, best of such as the model has never heard: on others its loss is lower than it will be. Their
   * speech is not learned from. Absent: every tenth speaker is held out.
   */
  readonly heldOut?: readonly Utterance[];
  /** As {@link AdaptSpeakerOptions.language}; one for all speakers. */
  readonly language?: string | undefined;
  readonly onStatus?: (sentence: string) => void;
}

/** What {@link adaptSpeakers} learned from, and what it gained on speakers held out. */
export interface SharedAdapterReport extends Omit<AdaptationReport, "unsure"> {
  readonly speakers: number;
  readonly heldOutSpeakers: number;
  readonly heldOutUtterances: number;
}

/** One speaker in training. */
interface Speaker {
  readonly name: string;
  readonly spoken: readonly SpokenText[];
  readonly own: Adapter;
}

// Every tenth speaker is held out.
const heldOutEvery = 10;

/**
 * Learns a shared adapter. Some speakers are held out whole, and are heard with the shared adapter alone: learning stops when
 * their loss no longer falls, and unless it falls and their words are no worse, the adapter adds nothing.
 * @param utterances each with a `speaker`
 * @throws UsmLiteError INVALID_ARGUMENT with fewer than two speakers or an utterance without one, and as {@link adaptSpeaker}
 *
 * @example
 * const { adapter: shared } = await adaptSpeakers(model, readManifest("many-speakers.jsonl"));
 * const { adapter } = await adaptSpeaker(model, readManifest("ann.jsonl"), { shared });
 */
export async function adaptSpeakers(
  model: SpeechModel,
  utterances: readonly Utterance[],
  options: SharedAdapterOptions = {},
): Promise<{ adapter: Adapter; report: SharedAdapterReport }> {
  const settings = resolvedSettings(options, sharedDefaults);
  const { speakerRank = 1, language, onStatus = () => {} } = options;
  const layers = selectLayers(new AdapterBase(model).layers, settings.targets);
  transcriptEncoder(model, language); // a wrong language is told before anything is read
  using learner = learningNetwork(model);
  const { network, device } = learner;
  const speech = await readSpeech(model, utterances, options);
  const { heldOut } = speech;
  const shared = freshAdapter(layers, settings.rank, settings.seed, device);
  const speakers = speech.learned.map(({ name, index, spoken }): Speaker => {
    return { name, spoken, own: freshAdapter(layers, speakerRank, settings.seed + 1 + index, device) };
  });
  const adapters = new Map([["shared", shared], ...speakers.map(({ name, own }): [string, Adapter] => [`speaker ${name}`, own])]);
  const training = new AdapterTraining(network, adapters, model.frontEnd.config.featureSize, settings);
  const recognizer = new Recognizer(model, language === undefined ? {} : { language });

  const started = performance.now();
  const { best, baseLoss, epochs } = learn({ training, shared, speakers, heldOut, settings, onStatus });
  const trainingSeconds = (performance.now() - started) / 1000;

  const base: HeldOutResult = { loss: baseLoss, wer: heldOutWer(recognizer, heldOut, undefined) };
  let adapted: HeldOutResult = { loss: best.loss, wer: heldOutWer(recognizer, heldOut, best.adapter) };
  const keeps = best.epoch > 0 && adapted.wer <= base.wer;
  let { adapter } = best;
  if (!keeps) {
    adapter = scaledAdapter(best.adapter, 0);
    adapted = base;
    best.adapter.dispose();
  }
  training.dispose();
  for (const { own } of speakers) own.dispose();
  shared.dispose();
  const all = [...speakers.flatMap(({ spoken }) => spoken), ...heldOut];
  return {
    adapter,
    report: {
      speakers: speech.speakers,
      heldOutSpeakers: speech.speakers - speakers.length,
      utterances: all.length,
      seconds: all.reduce((sum, { seconds }) => sum + seconds, 0),
      heldOutUtterances: heldOut.length,
      epochs,
      bestEpoch: best.epoch,
      base,
      adapted,
      kept: keeps ? "shared" : "base",
      device,
      trainingSeconds,
    },
  };
}

/** Speech to learn a shared adapter from, and to judge it by. */
interface SharedSpeech {
  /** By speaker; `index` counts those that are held out of the same manifest as well. */
  readonly learned: readonly { readonly name: string; readonly index: number; readonly spoken: readonly SpokenText[] }[];
  readonly heldOut: readonly SpokenText[];
  /** Number of all speakers. */
  readonly speakers: number;
}

async function readSpeech(model: SpeechModel, utterances: readonly Utterance[], options: SharedAdapterOptions): Promise<SharedSpeech> {
  const { minutesPerSpeaker = 1, language, onStatus = () => {} } = options;
  const reading = { language, onStatus };
  const judges = options.heldOut && bySpeaker(heardWhole(model, options.heldOut, reading), minutesPerSpeaker);
  const whole = heardWhole(model, utterances, reading);
  const learnable = judges ? whole.filter(({ speaker }) => speaker === undefined || !judges.has(speaker)) : whole;
  const groups = bySpeaker(learnable, minutesPerSpeaker);
  if (groups.size < (judges ? 1 : 2)) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      "a shared adapter is learned from one speaker at least and judged by another; give speech of more speakers",
    );
  }
  const learned: { name: string; index: number; spoken: readonly SpokenText[] }[] = [];
  const heldOut: SpokenText[] = [];
  onStatus(`reading speech of ${groups.size} speakers`);
  for (const [index, [name, own]] of [...groups].entries()) {
    const spoken = await spokenTexts(model, own, reading);
    if (!judges && isHeldOut(index, groups.size)) heldOut.push(...spoken);
    else learned.push({ name, index, spoken });
  }
  for (const own of judges?.values() ?? []) heldOut.push(...(await spokenTexts(model, own, reading)));
  return { learned, heldOut, speakers: groups.size + (judges?.size ?? 0) };
}

interface SharedLearning {
  readonly training: AdapterTraining;
  readonly shared: Adapter;
  readonly speakers: readonly Speaker[];
  readonly heldOut: readonly SpokenText[];
  readonly settings: ResolvedAdapterSettings;
  readonly onStatus: (sentence: string) => void;
}

/** Epochs until the loss on held-out speakers no longer falls. Where none lowered that of the base, the best adapter adds nothing. */
function learn(learning: SharedLearning): { best: { epoch: number; loss: number; adapter: Adapter }; baseLoss: number; epochs: number } {
  const { training, shared, heldOut, settings, onStatus } = learning;
  const baseLoss = training.loss(heldOut, []);
  let best = { epoch: 0, loss: baseLoss, adapter: scaledAdapter(shared, 0) };
  let epochs = 0;
  while (epochs < settings.epochs && epochs < best.epoch + settings.patience) {
    const rate = settings.learningRate * (1 - (0.9 * epochs) / settings.epochs);
    const loss = learnEpoch(learning, RandomStream.derived(settings.seed, 4, epochs), rate);
    epochs++;
    const heldOutLoss = training.loss(heldOut, [{ adapter: shared, learns: true }]);
    onStatus(`epoch ${epochs}: loss ${loss.toFixed(3)}, held-out speakers ${heldOutLoss.toFixed(3)}`);
    if (heldOutLoss >= best.loss) continue;
    best.adapter.dispose();
    best = { epoch: epochs, loss: heldOutLoss, adapter: scaledAdapter(shared, settings.scale) };
  }
  return { best, baseLoss, epochs };
}

/** Steps of one speaker each, in an order of this epoch's own; returns their mean loss. */
function learnEpoch({ training, shared, speakers, settings }: SharedLearning, random: RandomStream, learningRate: number): number {
  const steps = speakers.flatMap(({ spoken, own }) =>
    shuffledGroups(spoken, settings.batchSeconds, random).map((group) => ({ group, own, place: random.uniform() })),
  );
  const losses = steps
    .sort((a, b) => a.place - b.place)
    .map(({ group, own }) =>
      training.step(
        group,
        [
          { adapter: shared, learns: true },
          { adapter: own, learns: true },
        ],
        learningRate,
      ),
    );
  return losses.reduce((a, b) => a + b, 0) / losses.length;
}

const isHeldOut = (index: number, speakers: number): boolean => index % heldOutEvery === Math.min(heldOutEvery, speakers) - 1;

/** Utterances of each speaker, in the order of the manifest, up to so many minutes. */
function bySpeaker(utterances: readonly Utterance[], minutes: number): Map<string, Utterance[]> {
  const groups = new Map<string, Utterance[]>();
  const seconds = new Map<string, number>();
  for (const utterance of utterances) {
    const { speaker, duration, source } = utterance;
    if (speaker === undefined) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `${source}: has no speaker, which a shared adapter is learned by; add "speaker" to each line`,
      );
    }
    const before = seconds.get(speaker) ?? 0;
    if (before > 0 && before + duration > 60 * minutes) continue;
    groups.set(speaker, [...(groups.get(speaker) ?? []), utterance]);
    seconds.set(speaker, before + duration);
  }
  return groups;
}
