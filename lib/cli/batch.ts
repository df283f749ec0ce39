/** `usm-lite batch`: archives through a queue on Redis that any number of machines work on. */
import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { unreadableFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { transcriptFormats, type TranscriptFormat } from "../text/transcript_formats.js";
import { defaultMaximumHours } from "../transcribe/transcriber.js";
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

interface Connection {
  redis: string;
  queue: string;
}

interface AddOptions extends Connection {
  out: string;
  base: string;
  list?: string;
  format: TranscriptFormat;
  keyword?: string[];
  attempts: number;
  backoff: number;
}

interface WorkOptions extends Connection {
  model: string;
  device: "auto" | "cpu" | "cuda";
  arithmetic: "bfloat16" | "int8";
  batchInvariant: boolean;
  decoder?: "greedy" | "beam";
  language?: string;
  workers?: number;
  maxBatch: number;
  maxHours: number;
  lockSeconds: number;
}

const queueModule = () => import("../serve/batch/batch_queue.js");

/** A command of its own for each thing that is done with the queue. */
function subcommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .exitOverride()
    .showHelpAfterError(`usm-lite batch ${name} --help lists the options`)
    .addOption(
      new Option("--redis <address>", "redis://, rediss://, or the path of a socket").env("REDIS_URL").default("redis://127.0.0.1:6379"),
    )
    .option("--queue <name>", "name of the queue", "usm-lite");
}

export function batchCommand(): Command {
  const add = subcommand("add", "Add recordings that have no transcript yet to the queue.")
    .argument("[file...]", "audio files, on storage that every worker sees")
    .option("--list <file>", "file that names a recording on each line; - for standard input")
    .requiredOption("--out <folder>", "folder of the transcripts, on storage that every worker sees")
    .option("--base <folder>", "transcripts lie below --out as recordings lie below this folder", ".")
    .addOption(new Option("--format <format>", "output format").choices([...transcriptFormats]).default("json"))
    .option("--keyword <phrase>", "phrase that is likely to be said, any number of times", keywords)
    .option("--attempts <count>", "tries before a recording is a dead letter", positiveInteger("--attempts"), 5)
    .option("--backoff <s>", "seconds before the second try, doubled before each one after it", positiveNumber("--backoff"), 2)
    .action(addRecordings);
  const work = subcommand("work", "Transcribe what is in the queue until SIGTERM.")
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(arithmeticOption())
    .addOption(batchInvariantOption())
    .addOption(new Option("--decoder <decoder>", "beam is the default with a language model").choices(["greedy", "beam"]))
    .addOption(languageOption())
    .option("--workers <count>", "worker threads; default: one per core", positiveInteger("--workers"))
    .option("--max-batch <count>", "recordings that a worker thread has at once", positiveInteger("--max-batch"), 8)
    .option("--max-hours <hours>", "longer audio is a dead letter", positiveNumber("--max-hours"), defaultMaximumHours)
    .option("--lock-seconds <s>", "a job whose machine was not heard of for so long goes to another", positiveNumber("--lock-seconds"), 30)
    .action(workOnQueue);
  const status = subcommand("status", "Count the recordings in the queue, as JSON.").action(async (options: Connection) => {
    await using queue = await (await queueModule()).BatchQueue.open(options);
    process.stdout.write(`${JSON.stringify(await queue.status())}\n`);
  });
  const dead = subcommand("dead", "List recordings that could not be transcribed, one JSON object a line.").action(
    async (options: Connection) => {
      await using queue = await (await queueModule()).BatchQueue.open(options);
      for (const letter of await queue.deadLetters()) process.stdout.write(`${JSON.stringify(letter)}\n`);
    },
  );
  const retry = subcommand("retry", "Try every dead letter again.").action(async (options: Connection) => {
    await using queue = await (await queueModule()).BatchQueue.open(options);
    process.stdout.write(`${await queue.retryDeadLetters()} to be tried again\n`);
  });
  const batch = new Command("batch").description("Transcribe archives with many machines, through a queue on Redis.");
  for (const command of [add, work, status, dead, retry]) batch.addCommand(command);
  return batch;
}

async function addRecordings(files: string[], options: AddOptions): Promise<void> {
  const recordings = [...files, ...(options.list === undefined ? [] : listed(options.list))];
  if (recordings.length === 0) throw new UsmLiteError("INVALID_ARGUMENT", "there is nothing to add: name audio files, or a --list of them");
  const { BatchQueue, jobsOf } = await queueModule();
  const jobs = jobsOf(recordings, { ...options, keywords: options.keyword ?? [] }); // mistakes are told whether Redis answers or not
  await using queue = await BatchQueue.open(options);
  const { added, done } = await queue.add(jobs, { attempts: options.attempts, backoffMs: options.backoff * 1000 });
  process.stdout.write(`${added} in the queue, ${done} done already\n`);
}

function listed(path: string): string[] {
  try {
    return readFileSync(path === "-" ? 0 : path, "utf8")
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
  } catch (error) {
    throw unreadableFile(path, error);
  }
}

async function workOnQueue(options: WorkOptions): Promise<void> {
  const { BatchWorker } = await import("../serve/batch/batch_worker.js");
  const worker = await BatchWorker.start({
    redis: options.redis,
    queue: options.queue,
    model: options.model,
    device: options.device,
    arithmetic: options.arithmetic,
    batchInvariant: options.batchInvariant,
    maximumBatch: options.maxBatch,
    maximumSeconds: options.maxHours * 3600,
    lockSeconds: options.lockSeconds,
    ...(options.decoder ? { decoder: options.decoder } : {}),
    ...(options.language === undefined ? {} : { language: options.language }),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
    onJob: ({ job, error }) => console.error(error ? `usm-lite: ${job.audio}: ${error.message}` : `${job.audio}: done`),
  });
  console.error("working; SIGTERM ends after the recordings under way");
  await new Promise<void>((resolve) => {
    process.once("SIGTERM", resolve).once("SIGINT", resolve);
  });
  await worker.close();
}
