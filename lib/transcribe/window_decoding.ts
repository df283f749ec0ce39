/**
 * Windows of audio through a sequence-to-sequence model, several at once: language, text, times, and another try where the text looks
 * wrong. What a window gives does not depend on the others.
 */
import type { Adapter } from "../adapt/adapter.js";
import type { FrontEnd } from "../audio/front_end.js";
import { attentionWeights, tokenBegins, type AttentionWeights } from "../decode/token_alignment.js";
import { logSumExp } from "../decode/transducer.js";
import { batchInvariantly } from "../device/batch_invariance.js";
import { roundedFeatures } from "../device/placement.js";
import { withMemoryOfRecordings } from "../device/recorded_passes.js";
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "../models/model_folder.js";
import { SequencePrompt } from "../models/sequence_prompt.js";
import type { SequenceToSequenceNetwork } from "../models/speech_network.js";
import { withAdapters } from "../nn/adapter_scope.js";
import type { DecoderMemory, DecoderSession } from "../nn/decoder_session.js";
import { outputsOf, type Outcome } from "../outcome.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";
import type { ForwardPass } from "./forward_batcher.js";
import { adapterTooLarge } from "./frame_scores.js";
import { secondsPerTime, segmentsOf, type WindowSegment, type WindowText } from "./window_segments.js";
import { isSilent, WindowWriter, type WritingRequest } from "./window_writer.js";

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
  /** Asked between tokens: whether nobody waits for it any more. A pass takes long, and others may have part in it. */
  readonly isAborted?: (() => boolean) | undefined;
}

export interface DecodedWindow extends WindowText {
  readonly language: string | undefined;
}

// Keys and values that the decoder's layers make of windows, and how many gain from being written about together.
const memoryBytesPerPass = { cpu: 2 ** 30, cuda: 2 ** 33 } as const;
const mostWindowsPerPass = 16;

export class WindowDecoder implements ForwardPass<Window, DecodedWindow> {
  private readonly prompts: SequencePrompt;
  private readonly noSpeechId: number | undefined;
  private readonly writer: WindowWriter;
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
    tokenizer: TextTokenizer,
    private readonly options: WindowDecodingOptions,
    /** Where and how it computes. */
    private readonly placed: Pick<SpeechModel, "device" | "batchInvariant"> = { device: "cpu", batchInvariant: true },
  ) {
    const { generation } = network;
    this.prompts = new SequencePrompt(generation, tokenizer);
    this.prompts.check(options.language, options.task);
    this.noSpeechId = tokenizer.idOf("<|nospeech|>") ?? tokenizer.idOf("<|nocaptions|>");
    this.writer = new WindowWriter(network, tokenizer, this.prompts, options.beamWidth);
    const frames = network.hiddenFrames(frontEnd.frames(frontEnd.config.windowSamples ?? 30 * frontEnd.config.samplingRate));
    const bytes = frames * network.memoryValuesPerFrame * (placed.device === "cuda" ? 2 : 4);
    this.windowsPerPass = Math.min(mostWindowsPerPass, Math.max(1, Math.floor(memoryBytesPerPass[placed.device] / bytes)));
  }

  /** @throws UsmLiteError what {@link WindowDecoder.outcomes} gives for a window */
  forward(windows: readonly Window[]): DecodedWindow[] {
    return outputsOf(this.outcomes(windows));
  }

  /**
   * Windows with the same adapter, or none, share passes, as far as memory goes. BAD_ADAPTER or BAD_CHECKPOINT for those whose scores are
   * not numbers, ABORTED for those that were given up: the others are written as if these were not there.
   */
  outcomes(windows: readonly Window[]): Outcome<DecodedWindow>[] {
    const decoded = new Array<Outcome<DecodedWindow>>(windows.length);
    for (const adapter of new Set(windows.map((window) => window.adapter))) {
      const alike = [...windows.keys()].filter((index) => windows[index]?.adapter === adapter);
      for (let first = 0; first < alike.length; first += this.windowsPerPass) {
        const pass = alike.slice(first, first + this.windowsPerPass).filter((index) => {
          const isWanted = !windows[index]?.isAborted?.();
          if (!isWanted) decoded[index] = new UsmLiteError("ABORTED", "the window was given up");
          return isWanted;
        });
        if (pass.length === 0) continue;
        const decode = (): Outcome<DecodedWindow>[] =>
          batchInvariantly(this.placed.batchInvariant, () => this.decode(pass.map((index) => windows[index] as Window)));
        const said = adapter ? withAdapters({ kind: "all", adapters: [{ factors: adapter.factors, scale: 1 }] }, decode) : decode();
        pass.forEach((index, place) => (decoded[index] = said[place] as Outcome<DecodedWindow>));
      }
    }
    return decoded;
  }

  /** Of audio in a window. */
  seconds({ samples }: Window): number {
    return samples.length / this.frontEnd.config.samplingRate;
  }

  /** In one pass. */
  private decode(windows: readonly Window[]): Outcome<DecodedWindow>[] {
    using memory = withMemoryOfRecordings(() => this.encode(windows));
    using session = this.network.session(memory);
    const startScores = this.network.generation.promptPieces ? undefined : this.startScores(session, windows.length);
    const languages = windows.map(
      ({ language }, item) =>
        this.options.language ??
        this.prompts.language ??
        language ??
        (startScores && this.likeliestLanguage(startScores[item] as Float32Array)),
    );
    const requests = languages.map((language, item): WritingRequest => ({
      item,
      prompt: this.prompts.ids(language, this.options.task),
      noSpeechProbability: this.noSpeechProbability(startScores?.[item]),
      isAborted: windows[item]?.isAborted,
    }));
    return this.writer.write(session, requests).map((written, item) => {
      const [window, request] = [windows[item] as Window, requests[item] as WritingRequest];
      if (written instanceof UsmLiteError)
        return window.adapter && written.code === "BAD_CHECKPOINT" ? adapterTooLarge(written.message) : written;
      const seconds = this.seconds(window);
      if (isSilent(written, request)) return { segments: [], advance: seconds, language: languages[item] };
      const text = segmentsOf(written, seconds, this.writer.firstTime);
      return { ...text, segments: this.withTokenTimes(text.segments, session, request, seconds), language: languages[item] };
    });
  }

  /** Passes the text of all segments through the decoder again, to see which frames its cross-attention looks at. */
  private withTokenTimes(
    segments: readonly WindowSegment[],
    session: DecoderSession,
    { item, prompt: ofText }: WritingRequest,
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
}
