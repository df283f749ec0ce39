/**
 * The figures of encoder-cuda.json as tables for docs/kernels.md.
 * usage: node bench/gpu/encoder_summary.mjs encoder-cuda.json
 */
import { readFileSync } from "node:fs";

const { machine, date, records } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const cases = [...new Set(records.map((record) => record.case))];
const own = (record) => record.impl === "usm-lite";
const times = (peer, ms) => (peer ? `${(peer.ms / ms).toFixed(2)}x` : "");
const fastest = (list) => list.reduce((best, record) => (best && best.ms <= record.ms ? best : record), undefined);

console.log(`Measured on ${machine}, ${date.slice(0, 10)}: median milliseconds of a pass, seconds of audio a second (RTFx), how many times`);
console.log("as fast as PyTorch written plainly (eager), as the better of eager and compiled, and as the best that includes its CUDA graphs.\n");
console.log("| model, audio | implementation | weights | ms | RTFx | eager | eager or compiled | with CUDA graphs | MiB of weights | of bfloat16 |");
console.log("|---|---|---|---:|---:|---:|---:|---:|---:|---:|");
for (const name of cases) {
  const list = records.filter((record) => record.case === name);
  const peers = list.filter((record) => !own(record));
  const mode = (...endings) => fastest(peers.filter(({ impl }) => endings.some((ending) => impl.endsWith(` ${ending}`))));
  const float = list.find((record) => own(record) && record.spec === "bfloat16");
  for (const record of list) {
    const ratios = own(record) ? [mode("eager"), mode("eager", "compiled"), fastest(peers)].map((peer) => times(peer, record.ms)) : ["", "", ""];
    const weight = record.weightBytes;
    console.log(
      `| ${[
        name,
        record.impl,
        record.spec,
        record.ms.toFixed(2),
        record.rtfx.toFixed(0),
        ...ratios,
        weight === undefined ? "" : (weight / 2 ** 20).toFixed(0),
        weight === undefined || !float?.weightBytes ? "" : (weight / float.weightBytes).toFixed(3),
      ].join(" | ")} |`,
    );
  }
}
