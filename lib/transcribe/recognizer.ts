/** From samples to text on the calling thread: features, network over packed chunks, decoding. */
import type { Adapter } from "../adapt/adapter.js";
import { AdapterBase } from "../adapt/adapter_base.js";
import { readAdapter } from "../adapt/adapter_file.js";
import { LogMel } from "../audio/log_mel.js";
import { bestPath } from "../decode/ctc_greedy.js";
import type { Hypothesis, LogProbabilities } from "../decode/hypothesis.js";
import { ChunkPlan, joinChunks, type Chunk, type ChunkPlanner } from "../decode/overlap.js";
import { batchInvariantly } from "../device/batch_invariance.js";
import { withMemoryOfRecordings } from "../device/recorded_passes.js";
import { UsmLiteError } from "../errors.js";
import { checkOptionNames } from "../known_options.js";
import type { Outcome } from "../outcome.js";
import type { SpeechModel } from "../models/model_folder.js";
import { withAdapters } from "../nn/adapter_scope.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { chunkSeconds } from "./chunk_lengths.js";
import { Decoding, recognizedSpeech, type RecognizedSpeech, type Search } from "./decoding.js";
import { FeatureChunks, type AudioChunks, type FeatureChunk } from "./feature_chunks.js";
import type { ForwardPass } from "./forward_batcher.js";
import { ctcFrames, transducerFrames, type PassFrames, type PendingRows } from "./frame_scores.js";
import { packedFeatures } from "./packed_features.js";
import { checkAborted, dropRows, everyChunk, oneAhead, passes } from "./passes.js";
import type { ForwardChunk, ForwardSettings, UtteranceChunk } from "./passes.js";
import { recognizerOptionNames, type RecognizerOptions, type ResolvedRecordingOptions } from "./recognizer_options.js";
import { SampleChunks } from "./sample_chunks.js";
import { searchRest, Searches } from "./searches.js";
import type { WindowDecoder } from "./window_decoding.js";
import { transcribeWindows, transcribeWindowStream } from "./window_recognition.js";
import type { WindowSearch } from "./window_search.js";

// Of one forward pass over several short utterances of a batch; a chunk of a long one is a pass of its own.
const secondsPerBatchPass = 30;

/**
 * Recognizes speech with a loaded model on the calling thread, which it blocks; {@link Transcriber} does the same in a worker.
 *
 * @example
 * const recognizer = new Recognizer(loadModel("packed"));
 * const { samples } = await decodeAudio("speech.flac");
 * console.log(recognizer.transcribe(samples).text);
 */
export class Recognizer implements ForwardPass<ForwardChunk, Chunk> {
  /** Of audio in chunks of different recordings. */
  readonly secondsPerPass = 60;
  private readonly searches: Searches;
  private readonly adapter: Adapter | undefined;

  /**
   * @throws UsmLiteError BAD_TOKENIZER when the model has no tokenizer, or one of another size than its vocabulary; INVALID_ARGUMENT
   *   for an option that does not exist; for an adapter as {@link readAdapter}
   */
  constructor(
    readonly model: SpeechModel,
    options: RecognizerOptions = {},
  ) {
    checkOptionNames("Recognizer", options, recognizerOptionNames);
    this.searches = new Searches(model, options);
    this.adapter = options.adapter === undefined ? undefined : readAdapter(options.adapter, new AdapterBase(model));
  }

  /**
   * @param samples mono at the model's rate, 16 kHz, in [-1, 1]
   * @param isAborted asked between chunks; true ends the work with `ABORTED`
   */
  transcribe(samples: Float32Array, isAborted?: () => boolean): RecognizedSpeech {
    return this.transcribeBatch([samples], isAborted)[0] as RecognizedSpeech;
  }

  /**
   * Several utterances in shared forward passes; each result is what it would be alone.
   * @param adapter one for all, or one for each
   */
  transcribeBatch(
    utterances: readonly Float32Array[],
    isAborted: () => boolean = () => false,
    adapter: Adapter | readonly (Adapter | undefined)[] | undefined = this.adapter,
  ): RecognizedSpeech[] {
    const adapters = utterances.map((_, index) => (adapter instanceof Array ? adapter[index] : (adapter as Adapter | undefined)));
    if (this.windows) {
      const recordings = utterances.map((samples, index) => ({ samples, search: this.windowSearch({ adapter: adapters[index] }) }));
      return transcribeWindows(this, this.windows, recordings, () => checkAborted(isAborted));
    }
    const decodings = adapters.map((one) => this.decoding({ adapter: one }));
    const settings = adapters.map((one) => ({ ...this.forwardSettings(), adapter: one }));
    try {
      for (const { utterance, chunk } of this.chunks(utterances, isAborted, settings)) decodings[utterance]?.push(chunk);
      searchRest(decodings);
      return decodings.map((decoding, index) => decoding.result((utterances[index] as Float32Array).length));
    } finally {
      for (const decoding of decodings) decoding.dispose();
    }
  }

  /**
   * {@link transcribe} for samples that arrive in blocks of any length, such as those of {@link readAudio}: the same
   * result, and memory that hardly grows with the length of the audio.
   */
  async transcribeStream(
    blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
    isAborted: () => boolean = () => false,
  ): Promise<RecognizedSpeech> {
    if (this.windows) return transcribeWindowStream(this, this.windows, blocks, () => checkAborted(isAborted));
    using decoding = this.decoding();
    const features = this.featureChunks();
    const recognize = (chunk: FeatureChunk): void => {
      checkAborted(isAborted);
      this.forward([{ ...chunk, ...this.forwardSettings() }]).forEach((output) => decoding.push(output));
    };
    for await (const block of blocks) {
      for (const chunk of features.push(block)) recognize(chunk);
    }
    recognize(features.finish());
    return decoding.finish(features.samples);
  }

  /**
   * Log-probabilities of each utterance, one frame per {@link SpeechModel.secondsPerFrame}.
   * @throws UsmLiteError INVALID_ARGUMENT when the model is no CTC model
   */
  logProbabilities(utterances: readonly Float32Array[], isAborted: () => boolean = () => false): LogProbabilities[] {
    if (this.model.network.kind !== "ctc") {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `${this.model.folder} is no CTC model, which alone has a probability for each frame and token`,
      );
    }
    const { blankId } = this.model.network;
    const chunks: Chunk[][] = utterances.map(() => []);
    for (const { utterance, chunk } of this.chunks(utterances, isAborted)) chunks[utterance]?.push(chunk);
    return chunks.map((ofUtterance) => joinChunks(ofUtterance, blankId));
  }

  /** Frames of features per second. */
  get melRate(): number {
    const { samplingRate, hopLength } = this.model.frontEnd.config;
    return samplingRate / hopLength;
  }

  /** Frames of features per encoder frame. */
  get stride(): number {
    return Math.round(this.model.secondsPerFrame * this.melRate);
  }

  /** Of audio in a chunk. */
  seconds({ frames }: ForwardChunk): number {
    return frames / this.melRate;
  }

  /** The features of one recording, in the chunks that {@link Recognizer.transcribe} takes. */
  featureChunks(): AudioChunks {
    const { frontEnd } = this.model;
    const frames = (seconds: number): number => Math.ceil((seconds * this.melRate) / this.stride) * this.stride;
    const { length, overlap } = chunkSeconds(frontEnd);
    return this.chunksOf(new ChunkPlan(frames(length), frames(overlap), this.stride));
  }

  /** The one chunk of samples that are not longer than a chunk. */
  featureChunk(samples: Float32Array): FeatureChunk {
    const features = this.featureChunks();
    for (const _ of features.push(samples)) throw new UsmLiteError("INVALID_ARGUMENT", `${samples.length} samples are more than one chunk`);
    return features.finish();
  }

  /** The features of one recording, in the chunks of a plan that counts frames of features. */
  chunksOf(plan: ChunkPlanner): AudioChunks {
    const { frontEnd, device } = this.model;
    if (device === "cuda") return new SampleChunks(frontEnd, plan, "samples");
    return frontEnd instanceof LogMel ? new FeatureChunks(frontEnd, plan) : new SampleChunks(frontEnd, plan);
  }

  /** What the network says about every chunk of every utterance; each belongs to whoever takes it. */
  private *chunks(
    utterances: readonly Float32Array[],
    isAborted: () => boolean,
    settings: readonly ForwardSettings[] = utterances.map(() => ({ adapter: this.adapter, bestPath: false, staysOnGpu: false })),
  ): Generator<{ utterance: number; chunk: Chunk }> {
    const begin = (pass: readonly UtteranceChunk[]): (() => Chunk[]) => {
      checkAborted(isAborted);
      const finish = this.ask(pass);
      return () => everyChunk(finish());
    };
    const all = passes(this.utteranceChunks(utterances, settings), secondsPerBatchPass * this.melRate);
    for (const { pass, results: said } of oneAhead(all, begin, dropRows)) {
      try {
        for (const { utterance } of pass) yield { utterance, chunk: said.shift() as Chunk };
      } finally {
        dropRows(said); // that nobody took
      }
    }
  }

  private *utteranceChunks(utterances: readonly Float32Array[], settings: readonly ForwardSettings[]): Generator<UtteranceChunk> {
    for (const [utterance, samples] of utterances.entries()) {
      const features = this.featureChunks();
      for (const chunk of features.push(samples)) yield { ...chunk, utterance, ...settings[utterance] };
      yield { ...features.finish(), utterance, ...settings[utterance] };
    }
  }

  /**
   * One pass over packed chunks, of one recording or several; what is said about each does not depend on the others. Log-probabilities,
   * or, of a transducer, what its joint network takes, which is the caller's to dispose of where it stays on the GPU.
   * @throws UsmLiteError what {@link Recognizer.outcomes} gives for a chunk
   */
  forward(chunks: readonly ForwardChunk[]): Chunk[] {
    return everyChunk(this.outcomes(chunks));
  }

  /** {@link Recognizer.forward}, with BAD_ADAPTER or BAD_CHECKPOINT for each chunk of which nothing is said that is a number. */
  outcomes(chunks: readonly ForwardChunk[]): Outcome<Chunk>[] {
    return this.ask(chunks)();
  }

  /** On a GPU, {@link Recognizer.outcomes} in two parts: what it returns waits for the pass. */
  get begin(): ((chunks: readonly ForwardChunk[]) => () => Outcome<Chunk>[]) | undefined {
    return this.model.device === "cuda" ? (chunks) => this.ask(chunks) : undefined;
  }

  private ask(chunks: readonly ForwardChunk[]): () => Outcome<Chunk>[] {
    const begin = (): PendingRows[] => {
      const offsets = new SequenceOffsets(chunks.map(({ frames }) => frames));
      const features = packedFeatures(this.model, chunks, offsets);
      const { said, offsets: hidden } = this.adapted(chunks, () =>
        batchInvariantly(this.model.batchInvariant, () => this.encode(features, offsets, chunks)),
      );
      return chunks.map((chunk, index) => said(chunk, hidden.begin(index), hidden.begin(index) + (hidden.lengths[index] as number)));
    };
    const rows = withMemoryOfRecordings(() => tidy(begin));
    return () =>
      chunks.map(({ firstFrame }, index) => {
        const said = (rows[index] as PendingRows)();
        return said instanceof UsmLiteError ? said : { firstFrame: firstFrame / this.stride, ...said };
      });
  }

  /** A pass in which each chunk has its own adapter; where none has one, the pass is what it always was. */
  private adapted<Result>(chunks: readonly ForwardChunk[], pass: () => Result): Result {
    const adapters = chunks.map(({ adapter }) => adapter?.factors);
    if (adapters.every((factors) => factors === undefined)) return pass();
    const { network } = this.model;
    const offsets = new SequenceOffsets(chunks.map(({ frames }) => network.hiddenFrames(frames)));
    return withAdapters({ kind: "sequences", offsets, adapters }, pass);
  }

  /** Where windows are decoded, what they pass through; each begins where the one before ended. */
  get windows(): WindowDecoder | undefined {
    return this.searches.windows;
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when there are hotwords, which a model that decodes windows does not take */
  windowSearch({ hotwords = [], adapter = this.adapter }: ResolvedRecordingOptions = {}): WindowSearch {
    return this.searches.windowSearch({ hotwords, adapter });
  }

  /** @param samples length of the recording */
  recognized(hypothesis: Hypothesis, samples: number): RecognizedSpeech {
    const { secondsPerFrame, frontEnd } = this.model;
    return recognizedSpeech(hypothesis, secondsPerFrame, samples / frontEnd.config.samplingRate);
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when a hotword has no letters */
  decoding(options?: ResolvedRecordingOptions): Decoding {
    const { secondsPerFrame, network, frontEnd } = this.model;
    const ofBestPath = this.searches.takesBestPath(options?.hotwords ?? []);
    const blankId = network.kind !== "ctc" ? undefined : ofBestPath ? bestPath.blankScore : network.blankId;
    return new Decoding(this.search(options), blankId, secondsPerFrame, frontEnd.config.samplingRate);
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when a hotword has no letters */
  search({ hotwords = [], adapter = this.adapter }: ResolvedRecordingOptions = {}): Search {
    return this.searches.search({ hotwords, adapter });
  }

  /** @param chunks whose features these are, for what is wanted of each */
  private encode(
    features: Tensor,
    offsets: SequenceOffsets,
    chunks: readonly ForwardChunk[],
  ): { said: PassFrames; offsets: SequenceOffsets } {
    const { network, folder } = this.model;
    if (network.kind === "ctc") {
      const { logits, offsets: hidden } = network.forward(features, offsets);
      return { said: ctcFrames(logits, network, chunks, folder), offsets: hidden };
    }
    if (network.kind !== "transducer") throw new UsmLiteError("INTERNAL", "windows are not encoded here");
    const { projected, offsets: hidden } = network.encode(features, offsets);
    return { said: transducerFrames(projected, network, chunks, folder), offsets: hidden };
  }

  /** How the chunks of a recording pass through the network. */
  forwardSettings({ hotwords = [], adapter = this.adapter }: ResolvedRecordingOptions = {}): ForwardSettings {
    const { searches } = this;
    return { adapter, bestPath: searches.takesBestPath(hotwords), staysOnGpu: searches.decodesOnGpu(hotwords) };
  }
}
