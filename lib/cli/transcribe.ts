/** `usm-lite transcribe`: audio files to text on standard output, or to one file each. */
import { basename, extname, join } from "node:path";
import { Command, Option } from "commander";
import { writeTextFile } from "../checkpoint/atomic_file.js";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { UsmLiteError } from "../errors.js";
import { formatTranscript, transcriptFormats, type TranscriptFormat } from "../text/transcript_formats.js";
import type { RecognizedSpeech } from "../transcribe/decoding.js";
import { defaultMaximumHours, Transcriber } from "../transcribe/transcriber.js";
import {
  arithmeticOption,
  batchInvariantOption,
  deviceOption,
  keywords,
  languageOption,
  modelOption,
  positiveInteger,
  positiveNumber,
} from "./options.js";

interface TranscribeOptions {
  model: string;
  device: "auto" | "cpu" | "cuda";
  arithmetic: "bfloat16" | "int8";
  batchInvariant: boolean;
  format: TranscriptFormat;
  decoder?: "greedy" | "beam";
  beam?: number;
  language?: string;
  task?: "transcribe" | "translate";
  maxHours: number;
  outputDir?: string;
  adapter?: string;
  keyword?: string[];
}

export function transcribeCommand(): Command {
  return new Command("transcribe")
    .description("Print what is said in audio files.")
    .argument("<file...>", "audio files: WAV, FLAC, Opus, Vorbis, MP3; anything else if ffmpeg is installed")
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(arithmeticOption())
    .addOption(batchInvariantOption())
    .addOption(new Option("--format <format>", "output format").choices([...transcriptFormats]).default("text"))
    .addOption(new Option("--decoder <decoder>", "beam is the default with a language model").choices(["greedy", "beam"]))
    .option("--beam <width>", "hypotheses kept by the beam search", positiveInteger("--beam"))
    .addOption(languageOption())
    .addOption(
      new Option("--task <task>", "of models of several languages: translate writes English whatever is spoken").choices([
        "transcribe",
        "translate",
      ]),
    )
    .option("--keyword <phrase>", "phrase that is likely to be said, any number of times; not for sequence-to-sequence models", keywords)
    .option("--adapter <folder>", "adapter of the speaker, which usm-lite adapt wrote")
    .option("--max-hours <hours>", "refuse longer audio", positiveNumber("--max-hours"), defaultMaximumHours)
    .option("--output-dir <folder>", "write one file per audio file instead of standard output")
    .action(transcribeFiles);
}

// As many as share a pass.
const filesAtOnce = 8;

async function transcribeFiles(files: string[], options: TranscribeOptions): Promise<void> {
  const subtitles = options.format === "srt" || options.format === "vtt";
  if (subtitles && files.length > 1 && !options.outputDir) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `--format ${options.format} with ${files.length} files needs --output-dir: each gets a file of its own`,
    );
  }
  if (options.outputDir) {
    checkOutputPaths(options.outputDir, files, options.format);
    makeFolder(options.outputDir);
  }
  await using transcriber = await Transcriber.load({
    model: options.model,
    device: options.device,
    arithmetic: options.arithmetic,
    batchInvariant: options.batchInvariant,
    maximumSeconds: options.maxHours * 3600,
    ...(options.decoder ? { decoder: options.decoder } : {}),
    ...(options.beam ? { beamWidth: options.beam } : {}),
    ...(options.adapter === undefined ? {} : { adapter: options.adapter }),
    ...(options.language === undefined ? {} : { language: options.language }),
    ...(options.task ? { task: options.task } : {}),
  });
  const transcribe = (file: string): Promise<RecognizedSpeech> => transcriber.transcribe(file, { hotwords: options.keyword ?? [] });
  for await (const { file, outcome } of inTurn(files, transcribe)) {
    try {
      const transcript = outcome();
      const text = lineEnded(formatTranscript(transcript, options.format));
      if (options.outputDir) writeTextFile(outputPath(options.outputDir, file, options.format), text);
      else if (options.format === "text" && files.length > 1) process.stdout.write(`${file}: ${text}`);
      else process.stdout.write(text);
    } catch (error) {
      // One bad file does not keep the others from being transcribed.
      if (!(error instanceof UsmLiteError)) throw error;
      console.error(`usm-lite: ${error.message} [${error.code}]`);
      process.exitCode = 1;
    }
  }
}

/** What becomes of each file, in their order, while some of those that follow are already worked on: they share passes of the network. */
async function* inTurn<Result>(
  files: readonly string[],
  work: (file: string) => Promise<Result>,
): AsyncGenerator<{ file: string; outcome: () => Result }> {
  const begin = (file: string): Promise<() => Result> =>
    work(file).then(
      (result) => () => result,
      (error: unknown) => () => {
        throw error;
      },
    );
  const begun: Promise<() => Result>[] = [];
  for (const [index, file] of files.entries()) {
    begun.push(...files.slice(begun.length, index + filesAtOnce).map(begin));
    yield { file, outcome: await (begun[index] as Promise<() => Result>) };
  }
}

/** Two audio files must not write the same transcript. */
function checkOutputPaths(folder: string, files: readonly string[], format: TranscriptFormat): void {
  const writers = new Map<string, string>();
  for (const file of files) {
    const path = outputPath(folder, file, format);
    const other = writers.get(path);
    if (other !== undefined) {
      throw new UsmLiteError("INVALID_ARGUMENT", `${other} and ${file} would both write ${path}; give them different names`);
    }
    writers.set(path, file);
  }
}

/** JSON comes without the line break that ends the output of every command. */
const lineEnded = (text: string): string => (text.endsWith("\n") ? text : `${text}\n`);

function outputPath(folder: string, file: string, format: TranscriptFormat): string {
  const extension = { text: "txt", json: "json", verbose_json: "json", srt: "srt", vtt: "vtt" }[format];
  return join(folder, `${basename(file, extname(file))}.${extension}`);
}
