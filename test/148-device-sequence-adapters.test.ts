/** Adapters of sequence-to-sequence models, on the GPU. */
import { assertClose } from "./gpu.js";
import { join } from "node:path";
import test from "ava";
import { AdapterBase, loadModel, readManifest, SequenceOffsets, tidy } from "../lib/index.js";
import { freshAdapter } from "../lib/adapt/adapter.js";
import { resolvedSettings } from "../lib/adapt/adapter_settings.js";
import { AdapterTraining } from "../lib/adapt/adapter_training.js";
import { learningNetwork } from "../lib/adapt/learning_network.js";
import { spokenTexts } from "../lib/adapt/speaker_speech.js";
import { DeviceParameter } from "../lib/device/device_parameter.js";
import { featuresOnDevice } from "../lib/device/placement.js";
import type { SequenceToSequenceNetwork } from "../lib/models/speech_network.js";
import { withAdapters } from "../lib/nn/adapter_scope.js";
import { randomAdapter } from "./adapters.js";
import { randomTensor } from "./gradient.js";
import { compressRounded } from "./recipes.js";
import { writeCohere, writeSpokenLetters, writeWhisper } from "./sequence_models.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("device-sequence-adapters");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);

const whisper = writeWhisper(path("whisper"));
const cohere = writeCohere(path("cohere"));
const utterances = readManifest(writeSpokenLetters(folder.path));

test.serial("tokens are scored with an adapter on the GPU as on the CPU, in recorded steps too", (t) => {
  const score = (device: "cpu" | "cuda"): Float32Array[] => {
    const model = loadModel(whisper, { device });
    const network = model.network as SequenceToSequenceNetwork;
    using adapter = randomAdapter(new AdapterBase(model), 2, 1);
    const scope = { kind: "all", adapters: [{ factors: adapter.factors, scale: 1 }] } as const;
    return tidy(() =>
      withAdapters(scope, () => {
        using memory = network.remember(network.encode(featuresOnDevice(randomTensor([100, 16], 1), device), new SequenceOffsets([100])));
        using session = network.session(memory);
        let { rows, hidden } = session.advance([{ past: [], tokens: [310, 301], item: 0 }]);
        // The first step of one token is run kernel by kernel, those after it as a recording.
        const all = [
          hidden,
          ...[5, 7, 9].map(
            (token) => ({ rows, hidden } = session.advance([{ past: rows[0] as number[], tokens: [token], item: 0 }])).hidden,
          ),
        ];
        return all.map((one) => network.scores(one).toArray());
      }),
    );
  };
  const [expected, found] = [score("cpu"), score("cuda")];
  found.forEach((scores, step) => assertClose(t, scores, expected[step] as Float32Array, 3e-2, `step ${step}`));
});

test.serial("steps on the GPU lose what those of the CPU do", async (t) => {
  const learning = resolvedSettings({ rank: 2, learningRate: 0.05, dropout: 0.05 });
  for (const base of [cohere, await compressRounded(whisper, "int4+2:4")]) {
    const run = async (device: "cpu" | "cuda"): Promise<{ losses: Float32Array; norms: Float32Array }> => {
      const model = loadModel(base, { device });
      const speech = await spokenTexts(model, utterances.slice(0, 1), { language: "en" });
      using learner = learningNetwork(model);
      using adapter = freshAdapter(new AdapterBase(model).layers, 2, 1, device);
      const training = new AdapterTraining(learner.network, new Map([["a", adapter]]), model.frontEnd.config.featureSize, learning);
      const losses = Array.from({ length: 2 }, () => training.step(speech, [{ adapter, learns: true }]));
      losses.push(training.loss(speech, [{ adapter, learns: true }]));
      training.dispose();
      for (const { up } of adapter.factors.values()) t.is(up instanceof DeviceParameter, device === "cuda");
      const norms = [...adapter.factors.values()].map(({ up }) => Math.hypot(...up.toArray()));
      model.network.dispose();
      return { losses: Float32Array.from(losses), norms: Float32Array.from(norms) };
    };
    const [expected, found] = [await run("cpu"), await run("cuda")];
    assertClose(t, found.losses, expected.losses, 2e-2, base);
    assertClose(t, found.norms, expected.norms, 0.1, base);
    t.true((found.losses[2] as number) < (found.losses[0] as number), found.losses.join(" "));
  }
});
