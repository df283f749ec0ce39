/**
 * The figures of matmul-cuda.json as tables: printed, or put in place of those of a page, which begin with "Measured on" and
 * end with the last row of the second table.
 * usage: node bench/gpu/summary.mjs matmul-cuda.json [docs/kernels.md]
 */
import { readFileSync, writeFileSync } from "node:fs";

const { machine, date, records } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const cases = Map.groupBy ? Map.groupBy(records, (record) => record.case) : group(records);

function group(list) {
  const groups = new Map();
  for (const record of list) groups.set(record.case, [...(groups.get(record.case) ?? []), record]);
  return groups;
}

const microseconds = (ms) => (ms * 1000).toFixed(ms < 0.1 ? 1 : 0);
const ratio = (peer, own) => (peer ? `${(peer.ms / own.ms).toFixed(2)}x` : "");

const lines = [];
lines.push(`Measured on ${machine}, ${date.slice(0, 10)}: microseconds (median), and how many times as fast as each library's best.\n`);
lines.push("| M x K x N | weight | arithmetic | us | cuBLASLt bf16 | cuBLASLt 8-bit | cuSPARSELt, same type | of the card's ceiling |");
lines.push("|---|---|---|---:|---:|---:|---:|---:|");
for (const [name, list] of cases) {
  const peer = (library, spec) => list.find((record) => record.impl.startsWith(library) && record.spec === spec);
  for (const own of list.filter((record) => record.impl === "usm-lite")) {
    const eightBit = own.note?.startsWith("int8") ? "int8" : own.note?.startsWith("float8") ? "float8" : undefined;
    const cells = [
      name,
      own.spec,
      (own.note ?? "").split(" ")[0],
      microseconds(own.ms),
      ratio(peer("cuBLASLt", "bfloat16"), own),
      eightBit ? ratio(peer("cuBLASLt", eightBit), own) : "",
      own.spec.includes("+2:4") && eightBit !== "float8" ? ratio(peer("cuSPARSELt", eightBit === "int8" ? "int8+2:4" : "float32+2:4"), own) : "",
      own.share === undefined ? "" : `${Math.round(100 * own.share)} %`,
    ];
    lines.push(`| ${cells.join(" | ")} |`);
  }
}
lines.push("\n| library | M x K x N | type | us | of the card's ceiling |\n|---|---|---|---:|---:|");
for (const record of records.filter(({ impl }) => impl !== "usm-lite")) {
  lines.push(`| ${record.impl} | ${record.case} | ${record.spec} | ${microseconds(record.ms)} | ${record.share === undefined ? "" : `${Math.round(100 * record.share)} %`} |`);
}

const text = `${lines.join("\n")}\n`;
if (process.argv[3]) {
  const page = readFileSync(process.argv[3], "utf8");
  const tables = /^Measured on [^\n]*\n+(?:\|[^\n]*\n)+\n(?:\|[^\n]*\n)+/m;
  if (!tables.test(page)) throw new Error(`${process.argv[3]} has no tables after a line that begins with "Measured on"`);
  writeFileSync(process.argv[3], page.replace(tables, () => text));
} else {
  process.stdout.write(text);
}
