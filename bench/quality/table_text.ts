/** Quality tables as Markdown and as JSON, with bootstrap intervals over utterances. */
import { relativeChange, wordErrorRate, type ErrorRate } from "../../lib/text/word_error_rate.js";
import type { MeasuredRow } from "./row.js";

const ratesOf = (hypotheses: readonly string[], references: readonly string[]): ErrorRate =>
  wordErrorRate(references.map((reference, index) => ({ reference, hypothesis: hypotheses[index] as string })));

/** Of the same seed where there is one, as differences between seeds are no differences between methods. */
const baselineOf = (row: MeasuredRow, rows: readonly MeasuredRow[], name: string): MeasuredRow | undefined =>
  rows.find((other) => other.name === name && other.seed === row.seed) ?? rows.find((other) => other.name === name);

/** Rates and sizes of a row, without its texts. */
export function summaryOf(row: MeasuredRow, rows: readonly MeasuredRow[], baseline: string, references: readonly string[]): object {
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

/** @param baseline name of the row that changes are relative to; their intervals are paired */
export function tableText(rows: readonly MeasuredRow[], baseline: string, references: readonly string[]): string {
  const severalSeeds = new Set(rows.map(({ seed }) => seed)).size > 1;
  const lines = rows.map((row) => {
    const rate = ratesOf(row.beam, references);
    const reference = baselineOf(row, rows, baseline);
    const change = reference && reference !== row ? relativeChange(ratesOf(reference.beam, references), rate) : undefined;
    return [
      severalSeeds && row.method !== "as it is" ? `${row.label}, seed ${row.seed}` : row.label,
      row.method,
      row.bitsPerWeight.toFixed(2),
      percent(row.percentOfFloat32 / 100),
      percent(row.filePercentOfFloat32 / 100),
      percent(ratesOf(row.greedy, references).rate),
      `${percent(rate.rate)} (${rate.interval.map(percent).join(" to ")})`,
      change ? `${signed(change.relativeChange)} (${change.interval.map(signed).join(" to ")})` : "",
    ];
  });
  const header = ["spec", "method", "bits per weight", "of float32, weights", "of float32, file", "WER, greedy", "WER, beam search (95 % interval)", "relative change (95 % interval)"];
  return [header, header.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}
