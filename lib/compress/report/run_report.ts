/** `report.html` of a run of `usm-lite compress`: what was asked for, what it did to layers, how training went, what came out. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { writeTextFile } from "../../checkpoint/atomic_file.js";
import { readJsonFile, readTextFile } from "../../checkpoint/json_file.js";
import { yamlParser } from "../../checkpoint/yaml_parser.js";
import { measureModel, type ModelSize } from "../size_report.js";
import { readStageLog, type StageRecord } from "../stage_log.js";
import { escapeText, lineChart, shortNumber } from "./line_chart.js";
import { reportStyle } from "./report_style.js";

/** Error rates of the models before and after, as {@link evaluate} measures them; `evaluation.json` of a run. */
export interface RunEvaluation {
  readonly manifest: string;
  readonly models: readonly {
    readonly name: string;
    readonly wer: number;
    readonly werInterval: readonly [low: number, high: number];
    readonly cer: number;
    readonly words: number;
  }[];
}

export const evaluationFile = (run: string): string => join(run, "evaluation.json");

type Row = Readonly<Record<string, unknown>>;

/**
 * Writes `report.html` into the folder of a run, from the files that the run left there. It loads nothing else.
 * @param run the folder, `OUT.run`
 * @param model the compressed model, where it is written already
 * @returns path of the report
 * @throws UsmLiteError FILE_NOT_FOUND when the folder has no `run.json`
 *
 * @example
 * console.log(writeRunReport("packed.run", "packed"));
 */
export function writeRunReport(run: string, model?: string): string {
  const path = join(run, "report.html");
  const origin = readJsonFile(join(run, "run.json"), "BAD_CONFIG");
  const evaluation = existsSync(evaluationFile(run))
    ? (readJsonFile(evaluationFile(run), "BAD_CONFIG") as unknown as RunEvaluation)
    : undefined;
  const size = model && existsSync(model) ? measureModel(model) : undefined;
  const title = `usm-lite compress: ${String(origin["model"])}`;
  const sections = [
    section("Result", [size ? sizeParagraph(size) : "", evaluation ? evaluationTable(evaluation) : ""]),
    section(
      "Training",
      trainingLogs(run).map(({ name, rows }) => trainingCharts(name, rows)),
    ),
    section(
      "Layers",
      stagesOf(readStageLog(run)).map(([name, records]) => layerTable(name, records)),
    ),
    section("Size", size ? [sizeTable(size)] : []),
    section("Run", [
      table(
        ["", ""],
        [
          ["float model", String(origin["model"])],
          ["training speech", String(origin["manifest"])],
        ].map((row) => row.map(escapeText)),
      ),
      `<pre>${escapeText(yamlParser().stringify(origin["recipe"]))}</pre>`,
    ]),
  ];
  writeTextFile(
    path,
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">` +
      `<title>${escapeText(title)}</title><style>${reportStyle}</style></head>\n` +
      `<body><main><h1>${escapeText(title)}</h1>\n${sections.join("\n")}\n</main></body></html>\n`,
  );
  return path;
}

const section = (title: string, parts: readonly string[]): string => {
  const content = parts.filter((part) => part !== "");
  return content.length > 0 ? `<section><h2>${title}</h2>${content.join("\n")}</section>` : "";
};

function sizeParagraph({ linear, file }: ModelSize): string {
  const fact = (value: string, label: string): string => `<div class="fact"><b>${value}</b><span>${label}</span></div>`;
  return `<div class="facts">${[
    fact(`${linear.percentOfFloat32.toFixed(2)} %`, "of float32, linear weights"),
    fact(`${file.percentOfFloat32.toFixed(2)} %`, "of float32, whole file"),
    fact(linear.bitsPerWeight.toFixed(3), "bits per linear weight"),
    fact(`${(file.bytes / 1e6).toFixed(2)} MB`, "file"),
  ].join("")}</div>`;
}

const percent = (value: number): string => `${(100 * value).toFixed(2)} %`;

function evaluationTable({ manifest, models }: RunEvaluation): string {
  const [float] = models;
  const rows = models.map(({ name, wer, werInterval, cer, words }) => [
    escapeText(name),
    `${percent(wer)} (${werInterval.map(percent).join(" to ")})`,
    float && float.wer > 0 && name !== float.name ? `${wer >= float.wer ? "+" : ""}${percent(wer / float.wer - 1)}` : "",
    percent(cer),
    String(words),
  ]);
  return (
    table(["model", "WER (95 % interval)", "relative change", "CER", "words"], rows) + `<p class="note">on ${escapeText(manifest)}</p>`
  );
}

/** Each `metrics.jsonl`: of the run itself, of the stages that have folders, and of blocks that were trained alone. */
function trainingLogs(run: string): readonly { readonly name: string; readonly rows: readonly Row[] }[] {
  return [
    "",
    ...foldersIn(run),
    ...foldersIn(run).flatMap((stage) => foldersIn(join(run, stage)).map((name) => join(stage, name))),
  ].flatMap((name) => {
    const path = join(run, name, "metrics.jsonl");
    return existsSync(path) ? [{ name, rows: readTextFile(path, "FILE_UNREADABLE").split("\n").flatMap(parsedLine) }] : [];
  });
}

const foldersIn = (path: string): readonly string[] =>
  readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));

function parsedLine(line: string): Row[] {
  try {
    return [JSON.parse(line) as Row];
  } catch {
    return []; // cut off by a crash
  }
}

/** Keys of a step that are shown, with what they are called. */
const charts: readonly { readonly keys: readonly string[]; readonly title: string; readonly yLabel: string }[] = [
  { keys: ["loss"], title: "Loss", yLabel: "loss" },
  { keys: ["gradientNorm"], title: "Gradient norm before clipping", yLabel: "norm" },
  { keys: ["maskChanges"], title: "Mask churn: weights that a new mask keeps or prunes unlike the one before", yLabel: "share" },
  { keys: ["learningRate"], title: "Learning rate", yLabel: "rate" },
];

function trainingCharts(name: string, rows: readonly Row[]): string {
  const steps = rows.filter((row) => typeof row["step"] === "number");
  const known = new Set([...charts.flatMap(({ keys }) => keys), "step", "epoch", "audioPerSecond", "infeasible", "skipped", "validation"]);
  const others = [...new Set(steps.flatMap((row) => Object.keys(row)))].filter(
    (key) => !known.has(key) && steps.some((row) => typeof row[key] === "number"),
  );
  const validated = [...new Set(steps.flatMap((row) => Object.keys((row["validation"] as Row | undefined) ?? {})))];
  const points = (value: (row: Row) => unknown): (readonly [number, number])[] =>
    steps.flatMap((row) => (typeof value(row) === "number" ? [[row["step"] as number, value(row) as number] as const] : []));
  const all = [
    ...charts.map(({ keys, ...chart }) =>
      lineChart({ ...chart, xLabel: "step", series: keys.map((key) => ({ name: key, points: points((row) => row[key]) })) }),
    ),
    ...others.map((key) =>
      lineChart({ title: key, yLabel: key, xLabel: "step", series: [{ name: key, points: points((row) => row[key]) }] }),
    ),
    ...validated.map((key) =>
      lineChart({
        title: `Validation: ${key}`,
        yLabel: key,
        xLabel: "step",
        series: [{ name: key, points: points((row) => (row["validation"] as Row | undefined)?.[key]) }],
      }),
    ),
  ];
  return `${name === "" ? "" : `<h3>${escapeText(name)}</h3>`}<div class="charts">${all.join("")}</div>`;
}

function stagesOf(records: readonly StageRecord[]): readonly (readonly [string, readonly StageRecord[]])[] {
  const stages = new Map<string, StageRecord[]>();
  for (const record of records) {
    const name = `${record.stage}: ${record.modifier}`;
    stages.set(name, [...(stages.get(name) ?? []), record]);
  }
  return [...stages];
}

/** Errors as bars, on a scale for each column: its largest. */
function layerTable(name: string, records: readonly StageRecord[]): string {
  const bar = (key: "weightError" | "outputError", kind: string): ((record: StageRecord) => string) => {
    const largest = Math.max(...records.map((record) => record[key] ?? 0), 1e-12);
    // Of a layer that holds no finite numbers JSON has null.
    return ({ [key]: value }) =>
      typeof value !== "number"
        ? ""
        : `<span class="bar"><i class="${kind}" style="width:${((100 * value) / largest).toFixed(1)}%"></i></span>${shortNumber(value)}`;
  };
  const [ofWeights, ofOutputs] = [bar("weightError", "series1"), bar("outputError", "series0")];
  const calibrated = records.some(({ outputError }) => outputError !== undefined);
  const rows = records.map((record) => [
    escapeText(record.layer),
    escapeText(record.spec),
    ofWeights(record),
    ...(calibrated ? [ofOutputs(record)] : []),
  ]);
  const note = calibrated
    ? "Squared errors relative to what was there, outputs over the calibration speech."
    : "What pruning and rounding take from the trained weights, in squares relative to them.";
  const columns = ["layer", "spec", "error of weights", ...(calibrated ? ["error of outputs"] : [])];
  return `<h3>${escapeText(name)}</h3>${table(columns, rows)}<p class="note">${note}</p>`;
}

function sizeTable({ layers }: ModelSize): string {
  const rows = layers.map(({ name, shape, spec, bytes, bitsPerWeight }) => [
    escapeText(name),
    shape.join(" x "),
    escapeText(spec),
    String(bytes),
    bitsPerWeight.toFixed(3),
  ]);
  return `<details><summary>${layers.length} layers</summary>${table(["layer", "shape", "spec", "bytes", "bits per weight"], rows)}</details>`;
}

/** Cells are HTML. */
function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[], tag: string): string => `<tr>${cells.map((cell) => `<${tag}>${cell}</${tag}>`).join("")}</tr>`;
  const head = header.some((title) => title !== "") ? `<thead>${line(header, "th")}</thead>` : "";
  return `<div class="table"><table>${head}<tbody>${rows.map((row) => line(row, "td")).join("")}</tbody></table></div>`;
}
