/** One window of audio through a sequence-to-sequence model: language, text, times, and another try where the text looks wrong. */
import { deflateSync } from "node:zlib";
import { writeSequence, type SequenceConstraint, type WrittenSequence } from "../decode/sequence_search.js";
import { attentionWeights, tokenBegins, type AttentionWeights } from "../decode/token_alignment.js";
import { timestampConstraint } from "../decode/timestamp_rules.js";
import { batchInvariantly } from "../device/batch_invariance.js";
import { roundedFeatures } from "../device/placement.js";
import type { FrontEnd } from "../audio/front_end.js";
import { SequencePrompt } from "../models/sequence_prompt.js";
import type { SpeechModel } from "../models/model_folder.js";
import type { SequenceToSequenceNetwork } from "../models/speech_network.js";
import type { DecoderMemory } from "../nn/decoder_session.js";
import { RandomStream } from "../ops/random_stream.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";

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

/** A part of a window between two times. */
export interface WindowSegment {
  /** Seconds from the beginning of the window. */
  readonly start: number;
  readonly end: number;
  /** Of text, without times. */
  readonly tokens: readonly number[];
  readonly logProbabilities: readonly number[];
  /** When each token was said, in seconds from the beginning of the window, and the last one's end; absent where the model cannot tell. */
  readonly tokenTimes?: readonly number[] | undefined;
}

export interface DecodedWindow {
  readonly segments: readonly WindowSegment[];
  /** Seconds after which the next window begins: where the last complete segment ends. */
  readonly advance: number;
  readonly language: string | undefined;
}

const secondsPerTime = 0.02;
// Defaults and names of openai-whisper: a text that repeats itself or is unlikely is tried again, hotter each time (section 4.5).
const temperatures = [0, 0.2, 0.4, 0.6, 0.8, 1];
const compressionRatioThreshold = 2.4;
const logProbabilityThreshold = -1;
const noSpeechThreshold = 0.6;

export class WindowDecoder {
  private readonly prompts: SequencePrompt;
  private readonly noSpeechId: number | undefined;
  private readonly constrain: SequenceConstraint;

  /**
   * @throws UsmLiteError INVALID_ARGUMENT for a language or task that the model does not know, or without a language that it must be told;
   * BAD_TOKENIZER when the tokenizer lacks a piece of the prompt
   */
  constructor(
    private readonly network: SequenceToSequenceNetwork,
    private readonly frontEnd: FrontEnd,
    private readonly tokenizer: TextTokenizer,
    private readonly options: WindowDecodingOptions,
    /** Where and how the encoder computes. */
    private readonly placed: Pick<SpeechModel, "device" | "batchInvariant"> = { device: "cpu", batchInvariant: true },
  ) {
    const { generation } = network;
    this.prompts = new SequencePrompt(generation, tokenizer);
    this.prompts.check(options.language, options.task);
    this.noSpeechId = tokenizer.idOf("<|nospeech|>") ?? tokenizer.idOf("<|nocaptions|>");
    this.constrain = this.constraint();
  }

  /** @param samples at most a window @param detected language of earlier windows */
  decode(samples: Float32Array, detected: string | undefined): DecodedWindow {
    const seconds = samples.length / this.frontEnd.config.samplingRate;
    using memory = this.encode(samples);
    const startScores = this.network.generation.promptPieces ? undefined : this.startScores(memory);
    const language = this.options.language ?? detected ?? (startScores && this.likeliestLanguage(startScores));
    const noSpeechProbability = startScores && this.noSpeechId !== undefined ? probability(startScores, this.noSpeechId) : 0;
    const written = this.generate(memory, this.prompt(language), noSpeechProbability);
    const silent = noSpeechProbability > noSpeechThreshold && meanLogProbability(written) < logProbabilityThreshold;
    if (silent) return { segments: [], advance: seconds, language };
    const { segments, advance } = this.segments(written, seconds);
    return { segments: this.withTokenTimes(segments, memory, language, seconds), advance, language };
  }

  /** Passes the text of all segments through the decoder again, to see which frames its cross-attention looks at. */
  private withTokenTimes(
    segments: readonly WindowSegment[],
    memory: DecoderMemory,
    language: string | undefined,
    seconds: number,
  ): readonly WindowSegment[] {
    const { alignment, positions } = this.network.generation;
    if (!alignment || segments.length === 0 || this.prompts.noTimestampsId === undefined) return segments;
    const prompt = [...this.prompt(language), this.prompts.noTimestampsId];
    const text = segments.flatMap(({ tokens }) => tokens);
    if (prompt.length + text.length > positions) return segments;
    const frames = Math.max(1, Math.min(memory.lengths[0] as number, Math.round(seconds / secondsPerTime)));
    const weights: AttentionWeights[] = [];
    using session = this.network.session(memory);
    tidy(() => {
      session.advance([{ past: [], tokens: [...prompt, ...text], item: 0 }], (layer, queries, keys) => {
        // A token's row is the one that it was predicted from; what follows the last one is its end.
        const said = queries.rows(prompt.length - 1, queries.dim(0));
        for (const [of, head] of alignment.heads)
          if (of === layer) weights.push(attentionWeights(said, keys, alignment.headsPerLayer, head));
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

  private encode(samples: Float32Array): DecoderMemory {
    return tidy(() => {
      const { device, batchInvariant } = this.placed;
      const features = device === "cuda" ? roundedFeatures(this.frontEnd.featuresOnGpu([samples])) : this.frontEnd.features(samples);
      return batchInvariantly(batchInvariant, () =>
        this.network.remember(this.network.encode(features, new SequenceOffsets([features.dim(0)]))),
      );
    });
  }

  /** Scores after the token that begins everything: they tell the language, and whether there is speech. */
  private startScores(memory: DecoderMemory): Float32Array {
    const { startId } = this.network.generation;
    using session = this.network.session(memory);
    return tidy(() => this.network.scores(session.advance([{ past: [], tokens: [startId], item: 0 }]).hidden).toArray());
  }

  private likeliestLanguage(scores: Float32Array): string | undefined {
    const [first] = [...this.prompts.languages].sort(([, a], [, b]) => (scores[b] as number) - (scores[a] as number));
    return first?.[0];
  }

  private prompt(language: string | undefined): number[] {
    return this.prompts.ids(language, this.options.task);
  }

  private generate(memory: DecoderMemory, prompt: readonly number[], noSpeechProbability: number): WrittenSequence {
    const { generation } = this.network;
    const random = new RandomStream(1);
    let written: WrittenSequence | undefined;
    for (const temperature of temperatures) {
      written = writeSequence(this.network, memory, 0, {
        prompt,
        endId: generation.endId,
        maximumLength: generation.maximumLength(prompt.length),
        constrain: this.constrain,
        beamWidth: this.options.beamWidth ?? generation.beams,
        sampling: temperature > 0 ? { temperature, random } : undefined,
      });
      const mean = meanLogProbability(written);
      const repeats = compressionRatio(this.tokenizer.decode(written.tokens)) > compressionRatioThreshold;
      const unlikely = mean < logProbabilityThreshold && noSpeechProbability <= noSpeechThreshold;
      if (!repeats && !unlikely) break;
    }
    return written as WrittenSequence;
  }

  private constraint(): SequenceConstraint {
    const { suppressed, suppressedFirst, endId, latestFirstTime } = this.network.generation;
    const { tokenizer } = this;
    const { noTimestampsId } = this.prompts;
    const times = noTimestampsId === undefined ? undefined : timestampConstraint({ noTimestampsId, endId, latestFirstTime });
    // No token is a language, a task or a beginning in the middle of a text.
    const firstTime = noTimestampsId === undefined ? Infinity : noTimestampsId + 1;
    const special = Array.from({ length: this.network.vocabularySize }, (_, id) => id).filter(
      (id) => id !== endId && id < firstTime && id < tokenizer.size && tokenizer.isSpecial(id),
    );
    const never = [...new Set([...suppressed, ...special])].filter((id) => id !== endId);
    return (scores, written) => {
      for (const id of never) scores[id] = -Infinity;
      if (written.length === 0) for (const id of suppressedFirst) scores[id] = -Infinity;
      times?.(scores, written);
    };
  }

  /** Text between times; what follows the last pair of times is left for the next window. */
  private segments({ tokens, logProbabilities }: WrittenSequence, seconds: number): Omit<DecodedWindow, "language"> {
    const firstTime = this.prompts.noTimestampsId === undefined ? Infinity : this.prompts.noTimestampsId + 1;
    const isTime = (id: number | undefined): id is number => id !== undefined && id >= firstTime;
    const timeOf = (id: number): number => Math.min(seconds, (id - firstTime) * secondsPerTime);
    const segments: WindowSegment[] = [];
    let start = 0;
    let begin = 0;
    let complete = 0;
    const close = (end: number, at: number): void => {
      const kept = [...tokens.keys()].slice(begin, at).filter((index) => !isTime(tokens[index]));
      if (kept.length > 0) {
        segments.push({
          start,
          end,
          tokens: kept.map((i) => tokens[i] as number),
          logProbabilities: kept.map((i) => logProbabilities[i] as number),
        });
      }
    };
    tokens.forEach((id, index) => {
      if (!isTime(id)) return;
      const text = [...tokens.keys()].slice(begin, index).some((at) => !isTime(tokens[at]));
      if (text) {
        close(timeOf(id), index);
        complete = timeOf(id);
        begin = index;
      }
      start = timeOf(id);
    });
    const pairs = tokens.some((id, index) => isTime(id) && isTime(tokens[index + 1]));
    const endsWithOneTime = isTime(tokens.at(-1)) && !isTime(tokens.at(-2));
    if (pairs && !endsWithOneTime && complete > 0) return { segments, advance: complete };
    close(seconds, tokens.length);
    return { segments, advance: seconds };
  }
}

const meanLogProbability = ({ logProbability, tokens }: WrittenSequence): number => logProbability / (tokens.length + 1);

function probability(scores: Float32Array, id: number): number {
  const largest = scores.reduce((most, score) => Math.max(most, score), -Infinity);
  const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0);
  return Math.exp((scores[id] as number) - largest) / sum;
}

/** How many times shorter a text becomes when it is compressed: high for one that repeats itself. */
function compressionRatio(text: string): number {
  const bytes = Buffer.from(text, "utf8");
  return bytes.length === 0 ? 0 : bytes.length / deflateSync(bytes).length;
}
