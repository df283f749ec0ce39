/** Options that do not exist are refused by name, and not taken for a wish to have the default. */
import test from "ava";
import { loadModel, Recognizer, Transcriber, UsmLiteError } from "../lib/index.js";
import { checkOptionNames, optionsOf } from "../lib/known_options.js";
import { Server } from "../lib/serve/server.js";
import { servingFolder } from "./serving.js";

const folder = servingFolder("known-options");
test.after.always(folder.clean);
const { model } = folder;

/** What JavaScript may pass, whatever the types say. */
const any = (value: unknown): never => value as never;

test("an option that does not exist, and what is no object, are errors that name the options there are", async (t) => {
  const takers: [string, (options: never) => unknown, RegExp][] = [
    [
      "loadModel",
      (options) => loadModel(model, options),
      /; it takes weights, device, arithmetic, batchInvariant, language, sharedMatrices$/,
    ],
    ["Recognizer", (options) => new Recognizer(loadModel(model), options), /; it takes language, task, decoder, beamWidth, /],
    ["Transcriber.load", (options) => Transcriber.load(options), /; it takes model, adapters, maximumSeconds, language, /],
    ["Server.start", (options) => Server.start(options), /; it takes model, adapters, modelName, /],
  ];
  for (const [name, attempt, known] of takers) {
    for (const [given, problem] of [
      [{ modle: model }, `${name} has no option "modle"`],
      [model, `${name} was given a string where an object with options belongs`],
      [null, `${name} was given null where an object with options belongs`],
      [[model], `${name} was given an array where an object with options belongs`],
    ] as const) {
      const error = await t.throwsAsync(async () => attempt(any(given)), { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" }, problem);
      t.is(error.message.split(";")[0], problem);
      t.regex(error.message, known);
    }
  }
});

test("what a recording may ask for is checked before it is sent, and rejects", async (t) => {
  await using transcriber = await Transcriber.load({ model, maximumBatch: 2, maximumWaitMs: 1, decoder: "greedy" });
  const samples = new Float32Array(16_000);
  const wrong = transcriber.transcribe(samples, any({ keywords: ["CAT"] }));
  await t.throwsAsync(wrong, {
    code: "INVALID_ARGUMENT",
    message: 'transcribe has no option "keywords"; it takes hotwords, speaker, signal',
  });
  await t.throwsAsync(transcriber.transcribe(samples, any("CAT")), { code: "INVALID_ARGUMENT", message: /^transcribe was given a string/ });
  await t.throwsAsync(transcriber.stream([samples], any({ keywords: [] })).next(), { code: "INVALID_ARGUMENT", message: /^stream has no/ });
  t.is((await transcriber.transcribe(samples, { signal: new AbortController().signal, hotwords: [] })).duration, 1);
});

test("an option may be undefined; what every object has is none", (t) => {
  t.notThrows(() => checkOptionNames("f", { a: undefined }, { a: true }));
  t.throws(() => checkOptionNames<object>("f", { toString: 1 }, {}), { message: 'f has no option "toString"; it takes ' });
  t.deepEqual(optionsOf<{ a?: number }>({ a: 1, b: 2 } as never, { a: true }), { a: 1 });
});
