/** `usm-lite adapt`: an adapter of one speaker, or of many, from speech. */
import { Command } from "commander";
import type { AdapterSettings } from "../adapt/adapter_settings.js";
import type { AdaptationReport } from "../adapt/adapt_speaker.js";
import { UsmLiteError } from "../errors.js";
import type { TrainingDevice } from "../train/training_device.js";
import { deviceOption, modelOption, nonNegativeNumber, positiveInteger, positiveNumber, repeated } from "./options.js";

interface AdaptCommandOptions {
  model: string;
  data: string;
  out: string;
  device: TrainingDevice;
  language?: string;
  shared?: string;
  speakers?: boolean;
  minutesPerSpeaker?: number;
  heldOut?: string;
  unsupervised?: boolean;
  rank?: number;
  alpha?: number;
  dropout?: number;
  target?: string[];
  epochs?: number;
  batchSeconds?: number;
  learningRate?: number;
  seed?: number;
  json?: boolean;
}

export function adaptCommand(): Command {
  return new Command("adapt")
    .description("Learn an adapter (LoRA) of one speaker, or one that many speakers share, from speech.")
    .addOption(modelOption())
    .requiredOption("--data <manifest>", "JSON lines with audio_filepath, duration and text: a minute or more of one speaker")
    .requiredOption("--out <folder>", "folder of the adapter, in the layout of PEFT; an adapter that is there is exchanged")
    .addOption(deviceOption("where to learn"))
    .option(
      "--language <code>",
      "language of the speech, such as en, for Whisper and Cohere models of several languages, which must be told; MMS has weights for each (fra)",
    )
    .option("--shared <folder>", "adapter to learn on top of, which --speakers made; the new one holds both")
    .option("--speakers", "learn an adapter that all speakers of the manifest share")
    .option("--minutes-per-speaker <minutes>", "of each at most, with --speakers; default: 1", positiveNumber("--minutes-per-speaker"))
    .option("--held-out <manifest>", "with --speakers: others to judge by, best of all such as the model never heard; default: every tenth")
    .option("--unsupervised", "learn from what the model hears with confidence, not from the manifest's text")
    .option("--rank <count>", "of the matrices that are added; default: 4, with --speakers 8", positiveInteger("--rank"))
    .option("--alpha <number>", "what is added is multiplied by alpha / rank; default: the rank", positiveNumber("--alpha"))
    .option("--dropout <share>", "of what adapters see while they learn; default: 0.1", nonNegativeNumber("--dropout"))
    .option(
      "--target <pattern>",
      "layers to adapt, any number of times: * for any characters, re: before a regular expression; default: attention, from 2 minutes on all",
      repeated,
    )
    .option(
      "--epochs <count>",
      "times that speech is learned from, at most; default: 8, from 2 minutes on 20, with --speakers 6",
      positiveInteger("--epochs"),
    )
    .option(
      "--batch-seconds <seconds>",
      "speech in a step, which decides how much memory is needed; a window of Whisper counts whole; default: 20",
      positiveNumber("--batch-seconds"),
    )
    .option(
      "--learning-rate <rate>",
      "highest learning rate, which falls to a tenth; default: 0.002, with --speakers 0.001",
      positiveNumber("--learning-rate"),
    )
    .option("--seed <number>", "of all randomness; default: 1", nonNegativeNumber("--seed"))
    .option("--json", "machine-readable report")
    .action(adapt);
}

async function adapt(options: AdaptCommandOptions): Promise<void> {
  checkCombination(options);
  const { AdapterBase } = await import("../adapt/adapter_base.js");
  const { checkAdapterFolder, readAdapter, writeAdapter } = await import("../adapt/adapter_file.js");
  const { adapterDefaults } = await import("../adapt/adapter_settings.js");
  const { adaptSpeaker } = await import("../adapt/adapt_speaker.js");
  const { adaptSpeakers } = await import("../adapt/shared_adapter.js");
  const { readManifest } = await import("../data/manifest.js");
  const { loadForLearning } = await import("../adapt/learning_network.js");
  checkAdapterFolder(options.out);
  const { OutputLock } = await import("../checkpoint/output_lock.js");
  using _lock = OutputLock.beside(options.out);
  const onStatus = (sentence: string): void => console.error(sentence);
  const model = loadForLearning(options.model, options.device, onStatus, options.language);
  const base = new AdapterBase(model);
  const utterances = readManifest(options.data);
  const settings = { ...settingsOf(options), language: options.language, onStatus };
  const { minutesPerSpeaker, unsupervised = false } = options;
  const { adapter, report } = options.speakers
    ? await adaptSpeakers(model, utterances, {
        ...settings,
        ...(minutesPerSpeaker === undefined ? {} : { minutesPerSpeaker }),
        ...(options.heldOut === undefined ? {} : { heldOut: readManifest(options.heldOut) }),
      })
    : await adaptSpeaker(model, utterances, {
        ...settings,
        unsupervised,
        shared: options.shared === undefined ? undefined : readAdapter(options.shared, base),
      });
  const training = { ...report, base: { ...report.base }, adapted: { ...report.adapted } };
  writeAdapter(options.out, adapter, base, { dropout: options.dropout ?? adapterDefaults.dropout, training });
  process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report));
}

function checkCombination({ speakers, shared, unsupervised, minutesPerSpeaker, heldOut }: AdaptCommandOptions): void {
  if (speakers && (shared !== undefined || unsupervised)) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      "--shared and --unsupervised do not go with --speakers: learn the shared adapter first, then one on top of it",
    );
  }
  if (!speakers && (minutesPerSpeaker !== undefined || heldOut !== undefined)) {
    throw new UsmLiteError("INVALID_ARGUMENT", "--minutes-per-speaker and --held-out go with --speakers");
  }
}

function settingsOf({ rank, alpha, dropout, target, epochs, batchSeconds, learningRate, seed }: AdaptCommandOptions): AdapterSettings {
  return {
    ...(rank === undefined ? {} : { rank }),
    ...(alpha === undefined ? {} : { alpha }),
    ...(dropout === undefined ? {} : { dropout }),
    ...(epochs === undefined ? {} : { epochs }),
    ...(batchSeconds === undefined ? {} : { batchSeconds }),
    ...(learningRate === undefined ? {} : { learningRate }),
    ...(seed === undefined ? {} : { seed }),
    ...(target === undefined ? {} : { targets: target }),
  };
}

const what = { speaker: "the adapter", shared: "the shared adapter alone", base: "nothing: the model as it is does better" } as const;

type Report = Pick<AdaptationReport, "utterances" | "seconds" | "base" | "adapted" | "kept" | "trainingSeconds">;

function formatReport({ utterances, seconds, base, adapted, kept, trainingSeconds }: Report): string {
  const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
  return (
    `kept ${what[kept]}\n` +
    `of ${utterances} utterances, those held out: loss ${base.loss.toFixed(3)} to ${adapted.loss.toFixed(3)}, ` +
    `WER ${percent(base.wer)} to ${percent(adapted.wer)}\n` +
    `learned for ${trainingSeconds.toFixed(1)} s from ${seconds.toFixed(0)} s of speech\n`
  );
}
