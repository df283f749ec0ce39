/**
 * Makes every quality table of docs/results.md anew from the figures in bench/results/quality-*.json, which main.ts wrote.
 *
 * usage: npm run results             writes docs/results.md
 *        npm run results -- --check  writes nothing; ends with 1 when the document says anything else than the figures
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { writeTextFile } from "../../lib/checkpoint/atomic_file.js";
import { readJsonFile } from "../../lib/checkpoint/json_file.js";
import { packageRoot } from "../package_root.js";
import { withTables } from "./results_document.js";
import type { RowSummary } from "./table_text.js";

const { check } = new Command().option("--check", "write nothing, compare").parse().opts<{ check?: boolean }>();

const path = join(packageRoot, "docs", "results.md");
const before = readFileSync(path, "utf8");
const after = withTables(before, (file) => readJsonFile(join(packageRoot, file), "BAD_CONFIG")["rows"] as unknown as RowSummary[]);
if (check && after !== before) {
  console.error("docs/results.md is not what bench/results/quality-*.json say; `npm run results` writes its tables anew");
  process.exitCode = 1;
}
if (!check) writeTextFile(path, after);
