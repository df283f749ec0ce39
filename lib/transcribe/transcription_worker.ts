/** A recognition worker thread: loads the model once, then recognizes recordings, several at a time. */
import { parentPort, workerData } from "node:worker_threads";
import { AdapterBase } from "../adapt/adapter_base.js";
import { AdapterStore, type AdapterLease } from "../adapt/adapter_store.js";
import { readAudio } from "../audio/decode.js";
import { StreamResampler } from "../audio/resample.js";
import { notFinite } from "../audio/finite_samples.js";
import { UsmLiteError } from "../errors.js";
import { optionsOf } from "../known_options.js";
import { loadOptionNames } from "../models/load_options.js";
import { loadModel, type LoadOptions, type SpeechModel } from "../models/model_folder.js";
import { SequencePrompt } from "../models/sequence_prompt.js";
import { memoryStatistics, trimMemory } from "../native/runtime.js";
import { WORD_BEGIN } from "../text/tokenizer.js";
import type { Chunk } from "../decode/overlap.js";
import { AudioFeed } from "./audio_feed.js";
import type { RecognizedSpeech } from "./decoding.js";
import { ForwardBatcher, type PassStatistics } from "./forward_batcher.js";
import type { ForwardChunk } from "./passes.js";
import { Recognizer } from "./recognizer.js";
import { recognizerOptionNames, type RecognizerOptions } from "./recognizer_options.js";
import { RequestPort } from "./request_port.js";
import { recognizeFile, recognizeLive, type Recording } from "./recording.js";
import type { DecodedWindow, Window } from "./window_decoding.js";
import type { AudioInput, RecordingRequest, Vocabulary, WorkerAnswer, WorkerOptions, WorkerRequest } from "./worker_messages.js";

if (!parentPort) throw new UsmLiteError("INTERNAL", "this module runs only in a worker thread");
const port = parentPort;
const options = workerData as WorkerOptions;

// Passes of ever other lengths leave blocks of ever other sizes behind.
const maximumCachedBytes = 64 * 2 ** 20;

/** A recording under way. */
interface Active {
  readonly controller: AbortController;
  /** Of a recording whose samples are sent. */
  readonly feed?: AudioFeed;
}

const active = new Map<number, Active>();

try {
  const model = loadOrShare();
  const recognizer = new Recognizer(model, { ...optionsOf<RecognizerOptions>(options, recognizerOptionNames), ...told(model) });
  const adapters = storeOf(model);
  const passed = (statistics: PassStatistics): void => {
    const { bytesInUse, bytesCached } = memoryStatistics();
    if (bytesCached > maximumCachedBytes) trimMemory();
    post({ kind: "pass", ...statistics, tensorBytes: bytesInUse });
  };
  const batcher = new ForwardBatcher<ForwardChunk, Chunk>(recognizer, options, passed);
  const windows = recognizer.windows && new ForwardBatcher<Window, DecodedWindow>(recognizer.windows, options, passed);
  const requests: RequestPort = new RequestPort(
    port,
    (request) => receive(request, { recognizer, batcher, windows, adapters, hearAborts: () => requests.hearAborts() }),
    giveUp,
  );
  post({ kind: "ready", sharedMatrices: model.shareMatrices(), vocabulary: vocabularyOf(model) });
} catch (error) {
  post({ kind: "failed", ...failure(error) });
  port.close();
}

function post(answer: WorkerAnswer): void {
  port.postMessage(answer);
}

function failure(error: unknown): { code: UsmLiteError["code"]; message: string } {
  if (error instanceof UsmLiteError) return { code: error.code, message: error.message };
  return { code: "INTERNAL", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

function vocabularyOf({ tokenizer, textTokenizer }: SpeechModel): Vocabulary {
  const tokens = tokenizer ?? textTokenizer;
  if (!tokens) return [];
  const text = (id: number): string => tokenizer?.piece(id).replaceAll(WORD_BEGIN, " ") ?? tokens.decode([id]);
  return Array.from({ length: tokens.size }, (_, id) => (tokens.isSpecial(id) ? null : text(id)));
}

function loadOrShare(): SpeechModel {
  const choices = { ...optionsOf<LoadOptions>(options, loadOptionNames), language: options.language ?? options.servedLanguage };
  try {
    return loadModel(options.model, choices);
  } catch (error) {
    // Whoever shared the weights may be gone.
    if (options.sharedMatrices) return loadModel(options.model, { ...choices, sharedMatrices: {} });
    throw error;
  }
}

/** What a model of several languages is told of the one that is served. */
function told({ network, textTokenizer }: SpeechModel): Pick<WorkerOptions, "language"> {
  const { servedLanguage: language } = options;
  if (language === undefined || network.kind !== "sequence-to-sequence" || !textTokenizer) return {};
  return new SequencePrompt(network.generation, textTokenizer).languages.size > 0 ? { language } : {};
}

function storeOf(model: SpeechModel): AdapterStore | undefined {
  if (options.adapters === undefined) return undefined;
  return new AdapterStore(options.adapters, new AdapterBase(model));
}

/** What all recordings share. */
interface Shared extends Pick<Recording, "recognizer" | "batcher" | "windows"> {
  readonly adapters: AdapterStore | undefined;
  /** Gives up recordings that nobody waits for any more, even in the middle of a pass. */
  readonly hearAborts: () => void;
}

function receive(request: WorkerRequest, shared: Shared): void {
  switch (request.kind) {
    case "transcribe": {
      const { id, audio, options: recording } = request;
      start(id, recording, undefined, (one) => recognizeFile(blocksOf(audio, shared.recognizer, one.signal), one), shared);
      break;
    }
    case "listen": {
      const feed = new AudioFeed();
      start(request.id, request.options, feed, (one) => recognizeLive(atModelRate(feed, shared.recognizer), one), shared);
      break;
    }
    case "samples":
      active.get(request.id)?.feed?.push(request.samples);
      break;
    case "end":
      active.get(request.id)?.feed?.end();
      break;
    case "abort":
      giveUp(request.id);
      break;
  }
}

/** Says so at once: a pass that the recording has part in may take long. False when it is not under way. */
function giveUp(id: number): boolean {
  const recording = active.get(id);
  if (!recording) return false;
  const error = new UsmLiteError("ABORTED", "the transcription was aborted");
  active.delete(id);
  recording.controller.abort();
  recording.feed?.fail(error);
  post({ kind: "failed", id, ...failure(error) });
  return true;
}

function start(
  id: number,
  { partials, speaker, ...recording }: RecordingRequest,
  feed: AudioFeed | undefined,
  recognize: (recording: Recording) => Promise<RecognizedSpeech>,
  { recognizer, batcher, windows, adapters, hearAborts }: Shared,
): void {
  const controller = new AbortController();
  active.set(id, { controller, ...(feed ? { feed } : {}) });
  const isAborted = (): boolean => {
    hearAborts();
    return controller.signal.aborted;
  };
  const onPartial: Recording["onPartial"] = partials ? (partial) => post({ kind: "partial", id, ...partial }) : undefined;
  let lease: AdapterLease | undefined;
  const recognized = async (): Promise<RecognizedSpeech> => {
    lease = leaseOf(speaker, adapters);
    const options = { ...recording, adapter: lease?.adapter };
    return recognize({ recognizer, batcher, windows, options, signal: controller.signal, isAborted, onPartial });
  };
  recognized()
    .then((transcript): WorkerAnswer => ({ kind: "done", id, transcript }))
    .catch((error: unknown): WorkerAnswer => ({ kind: "failed", id, ...failure(error) }))
    .then((answer) => {
      lease?.release();
      if (active.delete(id)) post(answer);
    });
}

/** The adapter of a speaker, which stays until the recording was recognized. */
function leaseOf(speaker: string | undefined, adapters: AdapterStore | undefined): AdapterLease | undefined {
  if (speaker === undefined) return undefined;
  if (adapters) return adapters.lease(speaker);
  throw new UsmLiteError(
    "UNKNOWN_SPEAKER",
    `there is no adapter of speaker ${JSON.stringify(speaker.slice(0, 200))}: no folder of adapters was named`,
  );
}

function blocksOf(audio: AudioInput, recognizer: Recognizer, signal: AbortSignal): AsyncIterable<Float32Array> | Iterable<Float32Array> {
  const { maximumSeconds } = options;
  if (audio instanceof Float32Array) return atModelRate(checkedSamples(audio, maximumSeconds), recognizer);
  return readAudio(audio, { maximumSeconds, targetRate: recognizer.model.frontEnd.config.samplingRate, signal });
}

/** Of samples from callers, and from live speech, which few models hear at another rate. */
const sampleRate = 16_000;

function atModelRate<Blocks extends AsyncIterable<Float32Array> | Iterable<Float32Array>>(
  blocks: Blocks,
  recognizer: Recognizer,
): Blocks | AsyncIterable<Float32Array> {
  const { samplingRate } = recognizer.model.frontEnd.config;
  return samplingRate === sampleRate ? blocks : resampled(blocks, new StreamResampler(sampleRate, samplingRate));
}

async function* resampled(
  blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  resampler: StreamResampler,
): AsyncGenerator<Float32Array> {
  for await (const block of blocks) {
    const piece = resampler.push(block);
    if (piece.length > 0) yield piece;
  }
  const rest = resampler.finish();
  if (rest.length > 0) yield rest;
}

/** Samples from the caller meet the limits that decoded files do. */
function* checkedSamples(samples: Float32Array, maximumSeconds: number): Generator<Float32Array> {
  if (samples.length > maximumSeconds * sampleRate) {
    throw new UsmLiteError(
      "AUDIO_TOO_LONG",
      `${samples.length / sampleRate} s of samples are more than the limit of ${maximumSeconds} s; raise maximumSeconds`,
    );
  }
  const bad = notFinite(samples);
  if (bad) throw bad;
  // A second at a time: the features of hours at once would be large.
  for (let begin = 0; begin < samples.length; begin += sampleRate) yield samples.subarray(begin, begin + sampleRate);
}
