/** Quality tables as Markdown and as JSON, with bootstrap intervals over utterances. */
import { relativeChange, wordErrorRate, type ErrorRate } from "../../lib/text/word_error_rate.js";
import type { MeasuredRow } from "./row.js";

type Interval = readonly [low: number, high: number];

/** Rates and sizes of a row, without its texts: an element of `rows` in bench/results/quality-*.json. */
export interface RowSummary extends Omit<MeasuredRow, "greedy" | "beam"> {
  readonly werGreedy: number;
  readonly wer: number;
  readonly werInterval: Interval;
  /** Against the baseline of the table, paired; not of the baseline itself. */
  readonly relativeChange?: number;
  readonly relativeChangeInterval?: Interval;
}

const ratesOf = (hypotheses: readonly string[], references: readonly string[]): ErrorRate =>
  wordErrorRate(references.map((reference, index) => ({ reference, hypothesis: hypotheses[index] as string })));

/** Of the same seed where there is one, as differences between seeds are no differences between methods. */
const baselineOf = (row: MeasuredRow, rows: readonly MeasuredRow[], name: string): MeasuredRow | undefined =>
  rows.find((other) => other.name === name && other.seed === row.seed) ?? rows.find((other) => other.name === name);

/** @param baseline name of the row among `rows` that changes are relative to */
export function summaryOf(row: MeasuredRow, rows: readonly MeasuredRow[], baseline: string, references: readonly string[]): RowSummary {
  const { greedy, beam, ...rest } = row;
  const rate = ratesOf(beam, references);
  const reference = baselineOf(row, rows, baseline);
  const change = reference && reference !== row ? relativeChange(ratesOf(reference.beam, references), rate) : undefined;
  return {
    ...rest,
    werGreedy: ratesOf(greedy, references).rate,
    wer: rate.rate,
    werInterval: rate.interval,
    ...(change ? { relativeChange: change.relativeChange, relativeChangeInterval: change.interval } : {}),
  };
}

const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
const signed = (value: number): string => `${value >= 0 ? "+" : ""}${percent(value)}`;

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const meanInterval = (intervals: readonly Interval[]): Interval => [
  mean(intervals.map(([low]) => low)),
  mean(intervals.map(([, high]) => high)),
];
const span = (values: readonly number[], text: (value: number) => string): string =>
  values.length > 1 ? ` {${text(Math.min(...values))}, ${text(Math.max(...values))}}` : "";

/** A line for each row. Of one that was measured with several seeds: means, those of intervals too, and {lowest, highest} over seeds. */
export function tableText(rows: readonly RowSummary[]): string {
  const lines = [...new Set(rows.map(({ name }) => name))].map((name) => {
    const seeds = rows.filter((row) => row.name === name);
    const first = seeds[0] as RowSummary;
    const wers = seeds.map(({ wer }) => wer);
    const changed = seeds.filter((row): row is Required<RowSummary> => row.relativeChange !== undefined);
    const relative = changed.map(({ relativeChange: change }) => change);
    return [
      seeds.length > 1 ? `${first.label} (${seeds.length} seeds)` : first.label,
      first.method,
      first.bitsPerWeight.toFixed(2),
      percent(first.percentOfFloat32 / 100),
      percent(first.filePercentOfFloat32 / 100),
      percent(mean(seeds.map(({ werGreedy }) => werGreedy))),
      `${percent(mean(wers))} (${meanInterval(seeds.map(({ werInterval }) => werInterval))
        .map(percent)
        .join(" to ")})${span(wers, percent)}`,
      changed.length > 0
        ? `${signed(mean(relative))} (${meanInterval(changed.map(({ relativeChangeInterval }) => relativeChangeInterval))
            .map(signed)
            .join(" to ")})${span(relative, signed)}`
        : "",
    ];
  });
  const header = [
    "spec",
    "method",
    "bits per weight",
    "of float32, weights",
    "of float32, file",
    "WER, greedy",
    "WER, beam search (95 % interval)",
    "relative change (95 % interval)",
  ];
  return [header, header.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}
