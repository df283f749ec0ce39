/** The quality tables within docs/results.md, each below a line that names the JSON file that it is made of. */
import { tableText, type RowSummary } from "./table_text.js";

/** A line that names a file, and the table below it, if there is one yet. */
const marked = /<!-- table: (\S+) -->\n(?:\n*\|.*\n(?:\|.*\n)*)?/g;

/** The files that tables of a document are made of, in its order. */
export const tablesNamed = (document: string): readonly string[] => [...document.matchAll(marked)].map(([, file]) => file as string);

/**
 * `document` with every table made anew.
 * @param rowsOf the rows in a file that a table names
 *
 * @example
 * withTables(readFileSync("docs/results.md", "utf8"), (file) => JSON.parse(readFileSync(file, "utf8")).rows);
 */
export function withTables(document: string, rowsOf: (file: string) => readonly RowSummary[]): string {
  return document.replace(marked, (_, file: string) => `<!-- table: ${file} -->\n\n${tableText(rowsOf(file))}`);
}
