/** `npm run bench -- [--filter SUITE] [--threads 1,2] [--json FILE] [--machine NAME]` */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "./package_root.js";
import type { BenchmarkContext, BenchmarkRecord, BenchmarkReport, BenchmarkSuite } from "./record.js";
import { recordLine } from "./record_line.js";
import { adapters } from "./suites/adapters.js";
import { attentionCpu } from "./suites/attention_cpu.js";
import { decodeCuda } from "./suites/decode_cuda.js";
import { encoderCuda } from "./suites/encoder_cuda.js";
import { encoderPartsCuda } from "./suites/encoder_parts_cuda.js";
import { matmulCpu } from "./suites/matmul_cpu.js";
import { matmulCuda } from "./suites/matmul_cuda.js";
import { tokensCpu } from "./suites/sequence_decoder.js";
import { serve } from "./suites/serve.js";
import { trainStep } from "./suites/train_step.js";
import { trainingCuda } from "./suites/training_cuda.js";
import { trainingFamilies } from "./suites/training_families.js";
import { transcribe } from "./suites/transcribe.js";

const suites: readonly BenchmarkSuite[] = [
  matmulCpu,
  attentionCpu,
  matmulCuda,
  encoderCuda,
  encoderPartsCuda,
  trainingCuda,
  trainingFamilies,
  decodeCuda,
  tokensCpu,
  transcribe,
  trainStep,
  serve,
  adapters,
];

const usage = `usage: npm run bench -- [--filter SUITE] [--threads 1,2] [--json FILE] [--machine NAME]
suites: ${suites.map((suite) => suite.name).join(", ")}`;

function misuse(sentence: string): never {
  console.error(`${sentence}\n${usage}`);
  process.exit(2);
}

function parse(): { filter: string; threads: number[]; json: string | undefined; machine: string } {
  try {
    const { values } = parseArgs({
      options: {
        filter: { type: "string", default: "" },
        threads: { type: "string", default: [...new Set([1, cpus().length])].join(",") },
        json: { type: "string" },
        help: { type: "boolean", default: false },
        machine: { type: "string", default: `${cpus()[0]?.model.trim() ?? "unknown"}, ${cpus().length} cores` },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const threads = values.threads.split(",").map(Number);
    if (threads.some((count) => !Number.isInteger(count) || count < 1 || count > 256)) {
      misuse(`--threads ${values.threads} must be numbers from 1 to 256 with commas between them`);
    }
    return { filter: values.filter, threads, json: values.json, machine: values.machine };
  } catch (error) {
    return misuse((error as Error).message);
  }
}

const options = parse();
const chosen = suites.filter((suite) => suite.name.includes(options.filter));
if (chosen.length === 0) misuse(`no suite has "${options.filter}" in its name`);

const [load = 0] = loadavg();
const busy = load > 0.5 ? `load average ${load.toFixed(1)} when measuring began` : undefined;
if (busy) console.error(`other programs are running (${busy}); figures will be worse than the machine's best`);

const records: BenchmarkRecord[] = [];

/** After every record, so that a run that is stopped leaves what it has. */
function write(file: string): void {
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string };
  const report: BenchmarkReport = { machine: options.machine, date: new Date().toISOString(), version, records };
  writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`);
}

for (const suite of chosen) {
  console.log(`${suite.name} on ${options.machine}; x: speed beside the first line of the same work`);
  const context: BenchmarkContext = {
    threads: options.threads,
    log: (text) => console.log(text),
    record: (record) => {
      console.log(recordLine(record, records));
      const note = [record.note, busy].filter(Boolean).join("; ");
      records.push(note ? { ...record, note } : record);
      if (options.json) write(options.json);
    },
  };
  await suite.run(context);
}

if (options.json) {
  write(options.json);
  console.log(`wrote ${options.json}`);
}
