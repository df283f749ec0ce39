/** Rows of the table of adaptation: what was measured with one kind of adapter on one base, and how all are shown. */
import { relativeChange, wordErrorRate, type ErrorRate, type Transcription } from "../lib/text/word_error_rate.js";

export const adapters = ["none", "shared", "speaker", "both", "unsupervised"] as const;
export type AdapterKind = (typeof adapters)[number];

/** What one speaker's test utterances became. */
export interface SpeakerResult {
  readonly speaker: string;
  readonly kept: string;
  readonly transcriptions: readonly Transcription[];
}

export interface Row {
  readonly base: string;
  readonly adapter: AdapterKind;
  /** Of each speaker, that an adapter of the speaker learned from; absent: so many utterances. */
  readonly minutes?: number;
  readonly fileBytes: number;
  readonly adapterParameters: number;
  readonly learnedSeconds: number;
  readonly trainingSeconds: number;
  readonly speakers: readonly SpeakerResult[];
}

/** A row of the speakers of both. */
export function together(one: Row, other: Row): Row {
  const sum = (key: "learnedSeconds" | "trainingSeconds"): number => one[key] + other[key];
  return {
    ...one,
    learnedSeconds: sum("learnedSeconds"),
    trainingSeconds: sum("trainingSeconds"),
    speakers: [...one.speakers, ...other.speakers],
  };
}

export function pooled(row: Row): ErrorRate {
  return wordErrorRate(row.speakers.flatMap(({ transcriptions }) => transcriptions));
}

/** @param rows of which those without an adapter are compared with */
export function summary(row: Row, rows: readonly Row[]) {
  const errors = pooled(row);
  const comparison = (base: string): ReturnType<typeof relativeChange> | undefined => {
    const baseline = rows.find((other) => other.base === base && other.adapter === "none");
    return baseline && relativeChange(pooled(baseline), errors);
  };
  const { speakers: results, ...rest } = row;
  return {
    ...rest,
    wer: errors.rate,
    interval: errors.interval,
    ofSameBase: comparison(row.base),
    ofFloat32: comparison("float32"),
    keptBase: results.filter(({ kept }) => kept === "base").length,
    speakers: results.map(({ speaker, kept, transcriptions }) => {
      const { rate, interval } = wordErrorRate(transcriptions);
      return { speaker, kept, wer: rate, interval };
    }),
  };
}

function percent(value: number): string {
  return (100 * value).toFixed(1);
}

export function columnName({ adapter, minutes }: Pick<Row, "adapter" | "minutes">): string {
  return minutes === undefined ? adapter : `${adapter}, ${minutes} min`;
}

export function tables(rows: readonly Row[]): string {
  const bases = [...new Set(rows.map(({ base }) => base))];
  return pooledTable(rows) + bases.map((base) => speakerTable(rows, base)).join("");
}

/** Word errors of each speaker, in the columns what they were heard with; * marks speakers that were left to the base. */
function speakerTable(rows: readonly Row[], base: string): string {
  const columns = rows.filter((row) => row.base === base).map((row) => ({ ...summary(row, rows), name: columnName(row) }));
  const cell = ({ wer, interval, kept }: ReturnType<typeof summary>["speakers"][number], adapter: AdapterKind): string =>
    `${percent(wer)} [${interval.map(percent).join(", ")}]${kept === "base" && adapter !== "none" ? " *" : ""}`;
  const lines = (columns[0]?.speakers ?? []).map(
    ({ speaker }, index) =>
      `| ${speaker} | ${columns.map(({ speakers: results, adapter }) => cell(results[index] as (typeof results)[number], adapter)).join(" | ")} |\n`,
  );
  return `\n${base}, WER of each speaker in %:\n\n| speaker | ${columns.map(({ name }) => name).join(" | ")} |\n|---|${"---|".repeat(columns.length)}\n${lines.join("")}`;
}

function pooledTable(rows: readonly Row[]): string {
  const change = (one: ReturnType<typeof relativeChange> | undefined): string =>
    one ? `${percent(one.relativeChange)} [${one.interval.map(percent).join(", ")}]` : "";
  const lines = rows.map((one) => summary(one, rows)).map((row) => {
    const speed = row.trainingSeconds > 0 ? (row.trainingSeconds / row.learnedSeconds).toFixed(2) : "";
    const size = `${(row.fileBytes / 1e6).toFixed(1)} MB | ${row.adapterParameters.toLocaleString("en")}`;
    return `| ${row.base} | ${columnName(row)} | ${percent(row.wer)} [${row.interval.map(percent).join(", ")}] | ${change(row.ofSameBase)} | ${change(row.ofFloat32)} | ${row.keptBase} of ${row.speakers.length} | ${size} | ${speed} |\n`;
  });
  return (
    "| base | adapter | WER, % | change of the same base, % | of float32 without adapter, % | speakers left to the base | weights | numbers of an adapter | seconds of learning per second of speech |\n" +
    "|---|---|---|---|---|---|---|---|---|\n" +
    lines.join("")
  );
}
