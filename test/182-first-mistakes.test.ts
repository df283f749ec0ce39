/** What somebody who begins does wrong is answered with what would be right. */
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import test from "ava";
import { AdapterBase, decodeAudio, loadModel, readAdapter, readManifest, readRecipe, UsmLiteError } from "../lib/index.js";
import { makeFolder } from "../lib/checkpoint/atomic_folder.js";
import { checkModel } from "../lib/serve/http/transcription_request.js";
import { post, servingFolder, startServer } from "./serving.js";

const folder = servingFolder("first-mistakes");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);
writeFileSync(path("file"), "");
mkdirSync(path("empty"));

test("models, recipes, manifests, adapters and recordings that are not there", async (t) => {
  const cases: [() => unknown, string, RegExp][] = [
    [
      () => loadModel("openai/whisper-tiny"),
      "FILE_NOT_FOUND",
      /does not exist; name a folder .*, or download .*: usm-lite pull openai\/whisper-tiny$/,
    ],
    [() => loadModel(path("none")), "FILE_NOT_FOUND", /none does not exist; name a folder with a config\.json$/],
    [() => loadModel(path("file")), "FILE_UNREADABLE", /file is a file, no model; name a folder with a config\.json/],
    [() => loadModel(path("empty")), "FILE_NOT_FOUND", /empty is no model: .*config\.json does not exist; name a folder/],
    [() => readRecipe("int4"), "FILE_NOT_FOUND", /^int4 does not exist; name a YAML file, such as one of recipes\//],
    [() => readManifest(path("none")), "FILE_NOT_FOUND", /none does not exist; name a manifest; docs\/training\.md shows its lines/],
    [
      () => readAdapter(path("empty"), new AdapterBase(loadModel(folder.model))),
      "FILE_NOT_FOUND",
      /adapter_config\.json does not exist; name the folder of an adapter, as usm-lite adapt/,
    ],
    [() => makeFolder(path("file")), "FILE_UNWRITABLE", /file cannot be made: a file has that name; name another$/],
    [() => decodeAudio("https://example.com/a.wav"), "FILE_NOT_FOUND", /a\.wav is an address; download it first and give the path/],
    [() => decodeAudio("-"), "FILE_NOT_FOUND", /^- \(standard input\) is not read; give the path/],
    [() => decodeAudio(path("none")), "FILE_NOT_FOUND", /none does not exist; give the path of an audio file/],
  ];
  for (const [attempt, code, message] of cases) {
    await t.throwsAsync(async () => attempt(), { instanceOf: UsmLiteError, code, message }, message.source);
  }
});

test("an addon that was not built, here or for this machine", async (t) => {
  const library = join(dirname(fileURLToPath(import.meta.url)), "..", "lib");
  for (const [place, advice] of [
    [path("clone"), 'run "npm run build:native"'],
    [path("app", "node_modules", "usm-lite"), 'run "npm rebuild usm-lite", after "npm install-scripts approve usm-lite"'],
  ] as const) {
    for (const file of ["errors.js", join("native", "load_addon.js")]) cpSync(join(library, file), join(place, "dist", "lib", file));
    writeFileSync(join(place, "package.json"), '{"type":"module"}');
    const { loadAddon } = (await import(pathToFileURL(join(place, "dist", "lib", "native", "load_addon.js")).href)) as {
      loadAddon(): unknown;
    };
    const missing = t.throws(loadAddon) as UsmLiteError;
    t.is(missing.code, "FILE_NOT_FOUND");
    t.regex(missing.message, / is not built: none of .*usm_lite\w*\.node.* exists; run "/);
    t.true(missing.message.includes(advice), missing.message);
    for (const name of ["usm_lite.node", "usm_lite_emulator.node"]) {
      mkdirSync(join(place, "build", "Release"), { recursive: true });
      writeFileSync(join(place, "build", "Release", name), "of another machine");
    }
    const foreign = t.throws(loadAddon) as UsmLiteError;
    t.is(foreign.code, "FILE_UNREADABLE");
    t.regex(foreign.message, /cannot be loaded: .*; it must be built on this machine: run "/);
    t.true(foreign.message.includes(advice), foreign.message);
  }
});

test("keys that are missing", (t) => {
  const manifest = path("manifest.jsonl");
  writeFileSync(manifest, '{"audio_filepath": "a.wav", "text": "A"}');
  const message = /manifest\.jsonl:1: key "duration": missing; a number is needed; a line must be an object such as/;
  t.throws(() => readManifest(manifest), { code: "BAD_MANIFEST", message });
  writeFileSync(path("recipe.yaml"), "steps: 1");
  t.throws(() => readRecipe(path("recipe.yaml")), {
    code: "BAD_RECIPE",
    message: /key "stages": missing; an array is needed; docs\/recipes\.md/,
  });
});

test("paths and models that a server does not have", async (t) => {
  await using server = await startServer(folder.model);
  const response = await fetch(`${server.url}/health`);
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  t.deepEqual([response.status, error.code], [404, "unknown_url"]);
  t.regex(error.message, /^there is no GET \/health here; there are POST \/v1\/audio\/transcriptions, .* \/health\/ready, /);
  t.is((await post(server, new FormData())).status, 400);
  const served = { ...server.model, name: "tiny", aliases: ["whisper-1"] };
  t.throws(() => checkModel("gpt-4o", served), { message: 'the model "gpt-4o" is not served here; tiny, also called whisper-1 is' });
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  for (const line of [
    'rejected_total{code="queue_full"} 0',
    'engine_restarts_total{what="process"} 0',
    'model_reloads_total{result="failed"} 0',
  ])
    t.true(metrics.includes(`\nusmlite_${line}\n`), line);
  t.regex(metrics, /\nusmlite_build_info\{version="\d+\.\d+\.\d+.*"\} 1\n/);
});
