import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { compressModel, parseRecipe, writeRunReport } from "../lib/index.js";
import { lineChart, shortNumber } from "../lib/compress/report/line_chart.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("report");
test.after.always(folder.clean);

/** Tags that are not closed, or closed in the wrong order. */
function unbalanced(html: string): string[] {
  const open: string[] = [];
  const wrong: string[] = [];
  for (const [, closing, name = "", rest = ""] of html
    .replace(/<style>.*?<\/style>/s, "")
    .matchAll(/<(\/?)([a-z0-9]+)((?:"[^"]*"|[^">])*)>/g)) {
    if (rest.endsWith("/") || name === "meta") continue;
    if (!closing) open.push(name);
    else if (open.pop() !== name) wrong.push(name);
  }
  return [...wrong, ...open];
}

test("charts: every point within the frame, gaps left out, names escaped", (t) => {
  const chart = lineChart({
    title: "a <b>",
    xLabel: "x",
    yLabel: "y",
    series: [
      {
        name: 'q"',
        points: [
          [0, 1],
          [1, NaN],
          [2, -3],
          [3, 1e9],
        ],
      },
      { name: "none", points: [] },
    ],
  });
  t.deepEqual(unbalanced(chart), []);
  t.true(chart.includes("a &lt;b&gt;") && !chart.includes("NaN"));
  const points = /points="([^"]*)"/.exec(chart)?.[1]?.split(" ") ?? [];
  t.is(points.length, 3);
  for (const point of points) {
    const [x = 0, y = 0] = point.split(",").map(Number);
    t.true(x >= 62 && x <= 624 && y >= 14 && y <= 218, point);
  }
  t.is(lineChart({ title: "", xLabel: "", yLabel: "", series: [{ name: "", points: [[1, Infinity]] }] }), "");
  t.true(lineChart({ title: "one", xLabel: "", yLabel: "", series: [{ name: "", points: [[5, 5]] }] }).includes("circle"));
  const long = lineChart({
    title: "long",
    xLabel: "",
    yLabel: "",
    series: [{ name: "", points: Array.from({ length: 5000 }, (_, i) => [i, Math.sin(i)] as const) }],
  });
  t.true((/points="([^"]*)"/.exec(long)?.[1]?.split(" ") ?? []).length <= 400);
  t.deepEqual([0, 12345.6, 1e7, 1e-5, -0.25].map(shortNumber), ["0", "12350", "1.0e+7", "1.0e-5", "-0.25"]);
});

test.serial("a run leaves a report that needs nothing else", async (t) => {
  const model = writeTinyModel(join(folder.path, "float"), { languageModel: false });
  const manifest = writeTinyCorpus(join(folder.path, "corpus"), 4);
  const recipe = parseRecipe(
    JSON.stringify({
      stages: [
        { name: "solve", modifiers: [{ type: "gptq", spec: "int4", calibration: { utterances: 4 } }] },
        {
          name: "train",
          modifiers: [{ type: "quantization" }, { type: "sparsity", pattern: "2:4", schedule: "few-shot", shots: 2, interval: 1 }],
          training: { steps: 3, warmUpSteps: 1, batchSeconds: 5, speedPerturbation: false },
        },
      ],
    }),
    "r",
  );
  const out = join(folder.path, "out");
  t.true(await compressModel({ model, recipe, manifest, out }));
  const html = readFileSync(join(`${out}.run`, "report.html"), "utf8");
  t.deepEqual(unbalanced(html), []);
  t.false(/https?:|<script|<link|<img|url\(/.test(html), "nothing is loaded");
  for (const expected of [
    "<h2>Result</h2>",
    "Loss",
    "Mask churn",
    "solve: gptq",
    "train: training",
    "What pruning and rounding take",
    "encoder.layers.1.self_attn.v_proj.weight",
    "int4+2:4",
    "type: gptq",
    "of float32, whole file",
  ]) {
    t.true(html.includes(expected), expected);
  }
  t.false(html.includes("NaN") || html.includes("undefined"));
});

test("a report of an unfinished run, with damaged lines and hostile names", (t) => {
  const run = join(folder.path, "unfinished");
  mkdirSync(run);
  writeFileSync(join(run, "run.json"), JSON.stringify({ model: "<script>alert(1)</script>", manifest: "m", recipe: { a: "</pre>" } }));
  writeFileSync(join(run, "metrics.jsonl"), '{"step":1,"loss":"NaN"}\n{"step":2,"loss":3}\n{"st');
  writeFileSync(
    join(run, "layers.jsonl"),
    '{"stage":"s","modifier":"m","layer":"<i>","spec":"int4","weightError":0,"outputError":0,"seconds":1}\n{"stage":"s","modifier":"m","layer":"spoilt","spec":"int4","weightError":null}\n{"stag',
  );
  writeFileSync(
    join(run, "evaluation.json"),
    JSON.stringify({
      manifest: "test",
      models: [
        ["float32", 0.5],
        ["compressed", 0.55],
      ].map(([name, wer]) => ({ name, wer, werInterval: [0.4, 0.6], cer: 0.2, words: 9 })),
    }),
  );
  const html = readFileSync(writeRunReport(run), "utf8");
  t.deepEqual(unbalanced(html), []);
  t.false(html.includes("<script") || html.includes("<i>"));
  t.true(html.includes("spoilt"));
  t.true(html.includes("+10.00 %") && html.includes("&lt;i&gt;") && html.includes("50.00 % (40.00 % to 60.00 %)"));
  t.throws(() => writeRunReport(join(folder.path, "none")), { code: "FILE_NOT_FOUND" });
});
