/** The worker thread of a {@link Transcriber}: loads the model once, then answers requests in order. */
import { parentPort, workerData } from "node:worker_threads";
import { readAudio } from "../audio/decode.js";
import { UsmLiteError } from "../errors.js";
import { loadModel } from "../models/model_folder.js";
import { Recognizer } from "./recognizer.js";
import { defaultMaximumHours, type TranscriberOptions, type TranscriptionAnswer, type TranscriptionRequest } from "./transcriber.js";

if (!parentPort) throw new UsmLiteError("INTERNAL", "this module runs only in a worker thread");
const port = parentPort;
const options = workerData as TranscriberOptions & { model: string };

function post(answer: TranscriptionAnswer): void {
  port.postMessage(answer);
}

function failure(error: unknown): { code: UsmLiteError["code"]; message: string } {
  if (error instanceof UsmLiteError) return { code: error.code, message: error.message };
  return { code: "INTERNAL", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

try {
  const recognizer = new Recognizer(loadModel(options.model, options), options);
  let queue = Promise.resolve();
  port.on("message", (request: TranscriptionRequest) => {
    queue = queue.then(() => answer(recognizer, request));
  });
  post({ kind: "ready" });
} catch (error) {
  post({ kind: "failed", ...failure(error) });
  port.close();
}

async function answer(recognizer: Recognizer, { id, audio, aborted }: TranscriptionRequest): Promise<void> {
  const isAborted = (): boolean => Atomics.load(aborted, 0) === 1;
  try {
    if (isAborted()) return;
    const maximumSeconds = options.maximumSeconds ?? defaultMaximumHours * 3600;
    const targetRate = recognizer.model.frontEnd.config.samplingRate;
    const transcript =
      audio instanceof Float32Array
        ? recognizer.transcribe(checkedSamples(audio, maximumSeconds, targetRate), isAborted)
        : await recognizer.transcribeStream(readAudio(audio, { maximumSeconds, targetRate }), isAborted);
    post({ kind: "done", id, transcript });
  } catch (error) {
    post({ kind: "failed", id, ...failure(error) });
  }
}

/** Samples from the caller meet the limits that decoded files do. */
function checkedSamples(samples: Float32Array, maximumSeconds: number, sampleRate: number): Float32Array {
  if (samples.length > maximumSeconds * sampleRate) {
    throw new UsmLiteError(
      "AUDIO_TOO_LONG",
      `${samples.length / sampleRate} s of samples are more than the limit of ${maximumSeconds} s; raise maximumSeconds`,
    );
  }
  const bad = samples.findIndex((value) => !Number.isFinite(value));
  if (bad < 0) return samples;
  throw new UsmLiteError("BAD_AUDIO", `sample ${bad} is ${samples[bad]}; samples must be finite numbers, -1 to 1 being full scale`);
}
