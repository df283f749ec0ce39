/**
 * Windows of audio through a sequence-to-sequence model, several at once: language, text, times, and another try where the text looks
 * wrong. What a window gives does not depend on the others.
 */
import { deflateSync } from "node:zlib";
import type { Adapter } from "../adapt/adapter.js";
import type { FrontEnd } from "../audio/front_end.js";
import type { WrittenSequence } from "../decode/sequence_beam.js";
import { writeSequences, type SequenceRules } from "../decode/sequence_search.js";
import { timesAllowed } from "../decode/timestamp_rules.js";
import { attentionWeights, tokenBegins, type AttentionWeights } from "../decode/token_alignment.js";
import { logSumExp } from "../decode/transducer.js";
import { batchInvariantly } from "../device/batch_invariance.js";
import { roundedFeatures } from "../device/placement.js";
import type { SpeechModel } from "../models/model_folder.js";
import { SequencePrompt } from "../models/sequence_prompt.js";
import type { SequenceToSequenceNetwork } from "../models/speech_network.js";
import { withAdapters } from "../nn/adapter_scope.js";
import type { DecoderMemory, DecoderSession } from "../nn/decoder_session.js";
import { RandomStream } from "../ops/random_stream.js";
import { ExcludedTokens } from "../ops/token_choice.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";
import type { ForwardPass } from "./forward_batcher.js";
import { secondsPerTime, segmentsOf, type WindowSegment, type WindowText } from "./window_segments.js";

export interface WindowDecodingOptions {
  /**
   * Code such as "en"; absent: the most likely one of the first window. Of a model with weights for each language (MMS) the one that it was
   * loaded for, or absent.
   */
  readonly language?: string | undefined;
  /** `translate` writes English whatever is spoken; default `transcribe`. */
  readonly task?: "transcribe" | "translate" | undefined;
  /** Hypotheses kept; default: what the model asks for. */
  readonly beamWidth?: number | undefined;
}

/** A stretch of a recording to decode. */
export interface Window {
  /** At most the model's window. */
  readonly samples: Float32Array;
  /** That of earlier windows of the recording. */
  readonly language?: string | undefined;
  readonly adapter?: Adapter | undefined;
}

export interface DecodedWindow extends WindowText {
  readonly language: string | undefined;
}

/** A window whose text is being written. */
interface Attempt {
  readonly item: number;
  readonly prompt: readonly number[];
  readonly noSpeechProbability: number;
  readonly random: RandomStream;
  written: WrittenSequence | undefined;
}

// Defaults and names of openai-whisper: a text that repeats itself or is unlikely is tried again, hotter each time (section 4.5).
const temperatures = [0, 0.2, 0.4, 0.6, 0.8, 1];
const compressionRatioThreshold = 2.4;
const logProbabilityThreshold = -1;
const noSpeechThreshold = 0.6;

// Keys and values that the decoder's layers make of windows, and how many gain from being written about together.
const memoryBytesPerPass = { cpu: 2 ** 30, cuda: 2 ** 33 } as const;
const mostWindowsPerPass = 16;

export class WindowDecoder implements ForwardPass<Window, DecodedWindow> {
  private readonly prompts: SequencePrompt;
  private readonly noSpeechId: number | undefined;
  private readonly rules: SequenceRules;
  private readonly windowsPerPass: number;
  /** Of audio in windows that are handed in at once. */
  readonly secondsPerPass = 600;

  /**
   * @throws UsmLiteError INVALID_ARGUMENT for a language or task that the model does not know, or without a language that it must be told;
   * BAD_TOKENIZER when the tokenizer lacks a piece of the prompt
   */
  constructor(
    private readonly network: SequenceToSequenceNetwork,
    private readonly frontEnd: FrontEnd,
    private readonly tokenizer: TextTokenizer,
    private readonly options: WindowDecodingOptions,
    /** Where and how it computes. */
    private readonly placed: Pick<SpeechModel, "device" | "batchInvariant"> = { device: "cpu", batchInvariant: true },
  ) {
    const { generation } = network;
    this.prompts = new SequencePrompt(generation, tokenizer);
    this.prompts.check(options.language, options.task);
    this.noSpeechId = tokenizer.idOf("<|nospeech|>") ?? tokenizer.idOf("<|nocaptions|>");
    this.rules = this.sequenceRules();
    const frames = network.hiddenFrames(frontEnd.frames(frontEnd.config.windowSamples ?? 30 * frontEnd.config.samplingRate));
    const bytes = frames * network.memoryValuesPerFrame * (placed.device === "cuda" ? 2 : 4);
    this.windowsPerPass = Math.min(mostWindowsPerPass, Math.max(1, Math.floor(memoryBytesPerPass[placed.device] / bytes)));
  }

  /** Windows with the same adapter, or none, share passes, as far as memory goes. */
  forward(windows: readonly Window[]): DecodedWindow[] {
    const decoded = new Array<DecodedWindow>(windows.length);
    for (const adapter of new Set(windows.map((window) => window.adapter))) {
      const alike = [...windows.keys()].filter((index) => windows[index]?.adapter === adapter);
      for (let first = 0; first < alike.length; first += this.windowsPerPass) {
        const pass = alike.slice(first, first + this.windowsPerPass);
        const decode = (): DecodedWindow[] =>
          batchInvariantly(this.placed.batchInvariant, () => this.decode(pass.map((index) => windows[index] as Window)));
        const said = adapter ? withAdapters({ kind: "all", adapters: [{ factors: adapter.factors, scale: 1 }] }, decode) : decode();
        pass.forEach((index, place) => (decoded[index] = said[place] as DecodedWindow));
      }
    }
    return decoded;
  }

  /** Of audio in a window. */
  seconds({ samples }: Window): number {
    return samples.length / this.frontEnd.config.samplingRate;
  }

  /** In one pass. */
  private decode(windows: readonly Window[]): DecodedWindow[] {
    using memory = this.encode(windows);
    using session = this.network.session(memory);
    const startScores = this.network.generation.promptPieces ? undefined : this.startScores(session, windows.length);
    const languages = windows.map(
      ({ language }, item) =>
        this.options.language ?? language ?? (startScores && this.likeliestLanguage(startScores[item] as Float32Array)),
    );
    const attempts = languages.map((language, item): Attempt => {
      const prompt = this.prompts.ids(language, this.options.task);
      return {
        item,
        prompt,
        noSpeechProbability: this.noSpeechProbability(startScores?.[item]),
        random: new RandomStream(1),
        written: undefined,
      };
    });
    this.write(session, attempts);
    const texts = attempts.map(({ written, noSpeechProbability }, item): WindowText => {
      const seconds = this.seconds(windows[item] as Window);
      const sequence = written as WrittenSequence;
      const silent = noSpeechProbability > noSpeechThreshold && meanLogProbability(sequence) < logProbabilityThreshold;
      return silent ? { segments: [], advance: seconds } : segmentsOf(sequence, seconds, this.firstTime);
    });
    return texts.map((text, item) => {
      const segments = this.withTokenTimes(text.segments, session, attempts[item] as Attempt, this.seconds(windows[item] as Window));
      return { segments, advance: text.advance, language: languages[item] };
    });
  }

  /** Passes the text of all segments through the decoder again, to see which frames its cross-attention looks at. */
  private withTokenTimes(
    segments: readonly WindowSegment[],
    session: DecoderSession,
    { item, prompt: ofText }: Attempt,
    seconds: number,
  ): readonly WindowSegment[] {
    const { alignment, positions } = this.network.generation;
    if (!alignment || segments.length === 0 || this.prompts.noTimestampsId === undefined) return segments;
    const prompt = [...ofText, this.prompts.noTimestampsId];
    const text = segments.flatMap(({ tokens }) => tokens);
    if (prompt.length + text.length > positions) return segments;
    const { begin: firstFrame, length: heard } = session.memoryOf(item);
    const frames = Math.max(1, Math.min(heard, Math.round(seconds / secondsPerTime)));
    const weights: AttentionWeights[] = [];
    session.clear();
    tidy(() => {
      session.advance([{ past: [], tokens: [...prompt, ...text], item }], (layer, queries, keys) => {
        // A token's row is the one that it was predicted from; what follows the last one is its end.
        const said = queries.rows(prompt.length - 1, queries.dim(0));
        const looked = keys.rows(firstFrame, firstFrame + heard);
        for (const [of, head] of alignment.heads)
          if (of === layer) weights.push(attentionWeights(said, looked, alignment.headsPerLayer, head));
      });
    });
    const times = tokenBegins(weights, frames, alignment.filterWidth).map((frame) => frame * secondsPerTime);
    let first = 0;
    return segments.map((segment) => {
      const last = first + segment.tokens.length;
      const tokenTimes = times.slice(first, last + 1).map((time) => Math.min(Math.max(time, segment.start), segment.end));
      first = last;
      return { ...segment, tokenTimes };
    });
  }

  private encode(windows: readonly Window[]): DecoderMemory {
    return tidy(() => {
      const { frontEnd, network, placed } = this;
      const samples = windows.map((window) => window.samples);
      const offsets = new SequenceOffsets(samples.map(({ length }) => frontEnd.frames(length)));
      const features = placed.device === "cuda" ? roundedFeatures(frontEnd.featuresOnGpu(samples)) : this.features(samples, offsets);
      return network.remember(network.encode(features, offsets));
    });
  }

  /** (frames of all windows, feature size) */
  private features(windows: readonly Float32Array[], offsets: SequenceOffsets): Tensor {
    const packed = Tensor.zeros([offsets.frames, this.frontEnd.config.featureSize]);
    windows.forEach((samples, item) => {
      const begin = offsets.begin(item);
      packed.rows(begin, begin + (offsets.lengths[item] as number)).write(this.frontEnd.features(samples).toArray());
    });
    return packed;
  }

  /** Of each item, scores after the token that begins everything: they tell the language, and whether there is speech. */
  private startScores(session: DecoderSession, items: number): Float32Array[] {
    const { startId } = this.network.generation;
    const steps = Array.from({ length: items }, (_, item) => ({ past: [], tokens: [startId], item }));
    return tidy(() => {
      const scores = this.network.scores(session.advance(steps).hidden);
      return steps.map(({ item }) => scores.rows(item, item + 1).toArray());
    });
  }

  private likeliestLanguage(scores: Float32Array): string | undefined {
    const [first] = [...this.prompts.languages].sort(([, a], [, b]) => (scores[b] as number) - (scores[a] as number));
    return first?.[0];
  }

  private noSpeechProbability(scores: Float32Array | undefined): number {
    return scores && this.noSpeechId !== undefined ? Math.exp((scores[this.noSpeechId] as number) - logSumExp(scores)) : 0;
  }

  /** Writes the text of each attempt, and again what looks wrong. */
  private write(session: DecoderSession, attempts: readonly Attempt[]): void {
    const { generation } = this.network;
    let wrong = attempts;
    for (const temperature of temperatures) {
      const requests = wrong.map(({ item, prompt, random }) => ({
        item,
        prompt,
        endId: generation.endId,
        maximumLength: generation.maximumLength(prompt.length),
        beamWidth: this.options.beamWidth ?? generation.beams,
        sampling: temperature > 0 ? { temperature, random } : undefined,
      }));
      const written = writeSequences(this.network, session, requests, this.rules);
      wrong.forEach((attempt, index) => (attempt.written = written[index]));
      wrong = wrong.filter((attempt) => this.looksWrong(attempt));
      if (wrong.length === 0) break;
    }
  }

  private looksWrong({ written, noSpeechProbability }: Attempt): boolean {
    const { tokens } = written as WrittenSequence;
    const repeats = compressionRatio(this.tokenizer.decode(tokens)) > compressionRatioThreshold;
    const unlikely = meanLogProbability(written as WrittenSequence) < logProbabilityThreshold;
    return repeats || (unlikely && noSpeechProbability <= noSpeechThreshold);
  }

  private sequenceRules(): SequenceRules {
    const { generation, vocabularySize } = this.network;
    const { suppressed, suppressedFirst, endId, latestFirstTime } = generation;
    const { noTimestampsId } = this.prompts;
    // No token is a language, a task or a beginning in the middle of a text.
    const special = Array.from({ length: Math.min(vocabularySize, this.firstTime, this.tokenizer.size) }, (_, id) => id).filter((id) =>
      this.tokenizer.isSpecial(id),
    );
    const never = [...suppressed, ...special].filter((id) => id !== endId);
    if (noTimestampsId !== undefined) never.push(noTimestampsId);
    const excluded = new ExcludedTokens(vocabularySize, [never, [...never, ...suppressedFirst]]);
    return {
      excluded,
      allowed: (written) => ({
        without: written.length === 0 ? 1 : 0,
        ...(noTimestampsId === undefined ? { forbidden: [] } : timesAllowed(written, { noTimestampsId, endId, latestFirstTime })),
      }),
    };
  }

  /** Ids from here on are times. */
  private get firstTime(): number {
    return this.prompts.noTimestampsId === undefined ? Infinity : this.prompts.noTimestampsId + 1;
  }
}

const meanLogProbability = ({ logProbability, tokens }: WrittenSequence): number => logProbability / (tokens.length + 1);

/** How many times shorter a text becomes when it is compressed: high for one that repeats itself. */
function compressionRatio(text: string): number {
  const bytes = Buffer.from(text, "utf8");
  return bytes.length === 0 ? 0 : bytes.length / deflateSync(bytes).length;
}
