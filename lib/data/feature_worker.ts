/** The worker thread of a {@link FeatureCache}: audio files in, feature files out. */
import { parentPort, workerData } from "node:worker_threads";
import { decodeAudio } from "../audio/decode.js";
import { frontEndOf } from "../audio/family_front_ends.js";
import { LogMel } from "../audio/log_mel.js";
import { resample } from "../audio/resample.js";
import { writeFileAtomically } from "../checkpoint/atomic_file.js";
import { UsmLiteError } from "../errors.js";
import type { FeatureJob, FeatureJobDone, FrontEndSource } from "./feature_cache.js";
import { encodeFeatures } from "./feature_file.js";
import { utteranceOf } from "./utterance_audio.js";

if (!parentPort) throw new UsmLiteError("INTERNAL", "this module runs only in a worker thread");
const port = parentPort;
const source = workerData as FrontEndSource;
const frontEnd = "model" in source ? frontEndOf(source.model, source.preprocessor, "preprocessor_config.json") : new LogMel(source);

port.on("message", (job: FeatureJob) => {
  void extract(job).then((answer) => port.postMessage(answer));
});

async function extract(job: FeatureJob): Promise<FeatureJobDone> {
  const first = job.segments[0]?.source ?? job.audioPath;
  try {
    const { samples, sampleRate } = await decodeAudio(job.audioPath, { targetRate: frontEnd.config.samplingRate });
    for (const segment of job.segments) write(segment, utteranceOf(segment, samples, sampleRate));
    return {};
  } catch (error) {
    if (error instanceof UsmLiteError)
      return { code: error.code, message: error.code === "BAD_MANIFEST" ? error.message : `${first}: ${error.message}` };
    return { code: "INTERNAL", message: `${first}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}` };
  }
}

function write({ outputs, source }: FeatureJob["segments"][number], samples: Float32Array): void {
  for (const { speed, path } of outputs) {
    const permille = Math.round(1000 * speed);
    using features = frontEnd.features(permille === 1000 ? samples : resample(samples, permille, 1000));
    const [frames, bins] = [features.dim(0), features.dim(1)];
    if (frames === 0) {
      throw new UsmLiteError("BAD_MANIFEST", `${source}: its audio is shorter than one frame; leave it out`);
    }
    const bytes = encodeFeatures({ values: features.toArray(), frames, bins });
    // After a crash of the machine a file that is not whole is computed again.
    writeFileAtomically(path, (append) => append(bytes), { durable: false });
  }
}
