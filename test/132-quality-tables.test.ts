import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { packageRoot } from "../bench/package_root.js";
import { tablesNamed, withTables } from "../bench/quality/results_document.js";
import type { MeasuredRow } from "../bench/quality/row.js";
import { summaryOf, tableText, type RowSummary } from "../bench/quality/table_text.js";
import { tables } from "../bench/quality/tables.js";
import { readJsonFile } from "../lib/checkpoint/json_file.js";
import { parseRecipe } from "../lib/index.js";

const references = ["a b c d", "a b c d"];
const row = (name: string, seed: number, beam: readonly string[], more: Partial<MeasuredRow> = {}): MeasuredRow => ({
  name,
  label: `the ${name}`,
  method: "fine-tuned",
  seed,
  bitsPerWeight: 2.851,
  percentOfFloat32: 8.9,
  filePercentOfFloat32: 9.84,
  fileBytes: 7,
  greedy: ["a b x y", "a b c d"],
  beam,
  ...more,
});
const rows = [row("base", 1, ["a b c d", "a b c x"]), row("base", 2, ["a b x y", "a b c d"]), row("other", 1, ["a b x y", "a b c d"])];
const summaries = rows.map((one) => summaryOf(one, rows, "base", references));

test("a row gives rates and sizes, and its change against the baseline of its seed", (t) => {
  t.like(summaries[0], { name: "base", seed: 1, wer: 1 / 8, werGreedy: 2 / 8, fileBytes: 7, relativeChange: undefined });
  t.like(summaries[2], { wer: 2 / 8, relativeChange: 1 });
  t.is((summaries[2] as { beam?: unknown }).beam, undefined, "without texts");
});

test("a table has a line for each name: means over seeds, and their range", (t) => {
  const [header, rule, base, other, ...rest] = tableText(summaries)
    .trimEnd()
    .split("\n")
    .map((line) => line.slice(2, -2).split(" | "));
  t.deepEqual(rest, []);
  t.is(header?.length, rule?.length);
  t.like(base, { 0: "the base (2 seeds)", 2: "2.85", 3: "8.9 %", 4: "9.8 %", 5: "25.0 %" });
  t.regex(base?.[6] ?? "", /^18\.8 % \(.* to .*\) \{12\.5 %, 25\.0 %\}$/);
  t.is(base?.[7]?.trim(), "");
  t.is(other?.[0], "the other");
  t.regex(other?.[7] ?? "", /^\+100\.0 % \(.*\)$/);
});

test("tables of a document are made anew, its text stays", (t) => {
  const rowsOf = (file: string): readonly RowSummary[] => (file === "a.json" ? summaries : summaries.slice(0, 1));
  const [a, b] = [tableText(summaries), tableText(summaries.slice(0, 1))];
  const document =
    "# Title\n\n<!-- table: a.json -->\n\n| old |\n| --- |\n| x |\n\nText | with a bar.\n\n<!-- table: b.json -->\n\nMore.\n\n| own | table |\n";
  const made = withTables(document, rowsOf);
  t.is(made, `# Title\n\n<!-- table: a.json -->\n\n${a}\nText | with a bar.\n\n<!-- table: b.json -->\n\n${b}\nMore.\n\n| own | table |\n`);
  t.is(withTables(made, rowsOf), made);
  t.deepEqual(tablesNamed(made), ["a.json", "b.json"]);
});

test("every row of every table is a recipe, under a name of its own", (t) => {
  const budget = { steps: 300, learningRate: 3e-4, batchSeconds: 16, seed: 1, augment: true, features: "features" };
  const named = new Map<string, string>();
  for (const { rows: all, baseline } of Object.values(tables)) {
    t.true(
      all.some(({ name }) => name === baseline),
      baseline,
    );
    for (const { name, recipe } of all) {
      const text = JSON.stringify(recipe?.(budget) ?? null);
      t.is(named.get(name) ?? text, text, name);
      named.set(name, text);
      if (recipe) t.notThrows(() => parseRecipe(text, name));
    }
  }
});

test("docs/results.md has every table, and says what the figures say: npm run results", (t) => {
  const document = readFileSync(join(packageRoot, "docs", "results.md"), "utf8");
  const files = readdirSync(join(packageRoot, "bench", "results")).filter((name) => name.startsWith("quality-"));
  t.deepEqual([...tablesNamed(document)].sort(), files.map((name) => `bench/results/${name}`).sort());
  t.is(
    withTables(document, (file) => readJsonFile(join(packageRoot, file), "BAD_CONFIG")["rows"] as unknown as RowSummary[]),
    document,
  );
});
