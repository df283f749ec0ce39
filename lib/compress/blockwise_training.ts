/** A stage that trains the blocks of encoder and decoder one after another, each to put out what that of the float model does. */
import { join } from "node:path";
import type { BatchSource } from "../data/batch_source.js";
import { shuffled } from "../data/batching.js";
import { readManifest } from "../data/manifest.js";
import { copyBeside, type DeviceParameter } from "../device/device_parameter.js";
import { featuresOnDevice } from "../device/placement.js";
import { UsmLiteError } from "../errors.js";
import { placeForTraining } from "../models/device_training.js";
import { loadModel } from "../models/model_folder.js";
import { trainableNetwork } from "../models/trainable.js";
import { RandomStream } from "../ops/random_stream.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { BlockModel, HiddenFrames } from "../train/block_training.js";
import type { ParameterSettings } from "../train/optimizer.js";
import type { BlockStack, TrainableModel } from "../train/trainable_model.js";
import { Trainer } from "../train/trainer.js";
import { runTraining } from "../train/training_device.js";
import type { TrainingModifier } from "../train/training_modifier.js";
import { effectiveWeight } from "./calibration.js";
import type { PlannedStage } from "./compression_plan.js";
import type { CompressionState } from "./compression_state.js";
import { adoptTraining, parameterSettings, speechBatches, trainerOptions, trainingModifiers, type TrainableSpeech } from "./fine_tuning.js";
import { layerName } from "./layer_selection.js";
import type { Training } from "./recipe.js";
import type { StageLog } from "./stage_log.js";

interface BlockwiseSetup {
  readonly device: "cpu" | "cuda";
  readonly speech: TrainableSpeech;
  readonly state: CompressionState;
  readonly onStatus: (sentence: string) => void;
}

/** Settings of a stage whose blocks are trained alone. */
type BlockwiseSettings = Training & { readonly blockwise: NonNullable<Training["blockwise"]> };

/** The training of one block. */
interface BlockStage {
  /** Among the blocks of encoder and decoder. */
  readonly number: number;
  readonly planned: PlannedStage;
  readonly folder: string;
  readonly frames: HiddenFrames;
  readonly settingsOf: (name: string) => ParameterSettings;
  readonly log: StageLog;
}

export class BlockwiseTraining {
  private readonly stacks: readonly BlockStack[];

  /**
   * @throws UsmLiteError UNSUPPORTED_MODEL for a model whose blocks cannot be run alone; BAD_RECIPE for modifiers that need the whole model, or name
   * layers outside of the blocks
   */
  constructor(
    private readonly planned: PlannedStage,
    private readonly settings: BlockwiseSettings,
    private readonly setup: BlockwiseSetup,
  ) {
    this.stacks = stacksOf(setup.speech.network, setup.speech.model.folder);
    const prefixes = this.stacks.flatMap((stack) => stack.prefixes);
    const inBlock = (name: string): boolean => prefixes.some((prefix) => name.startsWith(prefix));
    for (const [{ type, source, wholeModel }, names] of planned.weights) {
      if (wholeModel) {
        throw new UsmLiteError(
          "BAD_RECIPE",
          `${source}: ${type} looks at outputs of the whole model; it belongs in a stage without blockwise`,
        );
      }
      const outside = names.find((name) => !inBlock(name));
      if (outside) {
        throw new UsmLiteError(
          "BAD_RECIPE",
          `${source}: "${layerName(outside)}" is in no block of encoder or decoder, and blockwise trains nothing else; compress it in another stage`,
        );
      }
    }
  }

  /**
   * Trains every block, first those of the encoder; none of an encoder or decoder in which nothing is compressed. Called again after it was
   * stopped, or killed, it goes on from the newest checkpoint in `folder` to the same bits.
   * @param options.features folder of features unless the recipe names one
   * @returns false when a signal stopped it
   */
  async run(folder: string, { features, log }: { readonly features: string; readonly log: StageLog }): Promise<boolean> {
    const { device, speech, onStatus } = this.setup;
    const { blockwise, seed } = this.settings;
    const settingsOf = parameterSettings(this.planned.stage, speech.network);
    const drawn = shuffled([...readManifest(speech.manifest)], new RandomStream(seed)).slice(0, blockwise.utterances);
    const batches = await speechBatches(speech, this.settings, this.settings.features ?? features, onStatus, drawn);
    const teacher = this.teacher();
    // On the GPU: a copy of the network, brought up to date whenever a block was trained.
    const placed = device === "cuda" ? placeForTraining(speech.network, speech.model.folder) : undefined;
    try {
      const stacks = placed ? stacksOf(placed, speech.model.folder) : this.stacks;
      const wanted = stacksOf(teacher, speech.model.folder);
      const heard = placed ? onGpu(batches) : batches;
      let before = 0;
      for (const [position, { prefixes }] of this.stacks.entries()) {
        const first = before;
        before += prefixes.length;
        if (!prefixes.some((prefix) => this.plannedFor(prefix).plan.size > 0)) continue;
        const blocks = stacks[position] as BlockStack;
        using frames = this.withWeights(
          "",
          placed,
          (transform) => new HiddenFrames(blocks, wanted[position] as BlockStack, heard, transform, seed),
        );
        for (const [index, prefix] of prefixes.entries()) {
          const stage = { number: first + index, planned: this.plannedFor(prefix), folder, frames, settingsOf, log };
          frames.want(index);
          const model = new BlockModel(speech.network, this.stacks[position] as BlockStack, index);
          if (!(await this.trainBlock(model, placed && new BlockModel(placed, blocks, index), stage))) return false;
          if (placed) refresh(placed, model.parameters());
          this.withWeights(prefix, placed, (transform) => frames.pass(index, transform));
        }
      }
    } finally {
      teacher.dispose();
      placed?.dispose();
    }
    return true;
  }

  /**
   * Trains one block, on the GPU where `placed` is its copy there.
   * @returns false when a signal stopped it
   */
  private async trainBlock(model: BlockModel, placed: BlockModel | undefined, block: BlockStage): Promise<boolean> {
    const { device, speech, state, onStatus } = this.setup;
    const { number, planned, folder, frames, settingsOf, log } = block;
    const losses: number[] = [];
    let modifiers: readonly TrainingModifier[] = [];
    const trainerOf = (network: BlockModel): Trainer => {
      modifiers = trainingModifiers(planned, { speech: { ...speech, network }, state, training: this.settings, onStatus });
      const options = trainerOptions(this.settings, { folder: join(folder, `block-${number}`), modifiers, settingsOf });
      return new Trainer(network, frames, { ...options, onStep: ({ loss }) => void losses.push(loss) });
    };
    const { trainer, result } = await runTraining(device, {
      cpu: () => trainerOf(model),
      gpu: () => ({ trainer: trainerOf(placed as BlockModel), release: () => {} }),
      resume: true,
      onResume: () => {},
    });
    try {
      if (!result.completed) return false;
      adoptTraining(trainer, { modifiers, planned, state, log });
    } finally {
      trainer.dispose();
    }
    speech.network.weightsChanged?.();
    if (losses.length > 0) {
      onStatus(`block ${number}: relative squared error ${meanOf(losses.slice(0, 8))} at first, ${meanOf(losses.slice(-8))} at last`);
    }
    return true;
  }

  /** The float model, where blocks are trained. */
  private teacher(): TrainableModel & { dispose(): void } {
    const { folder, language } = this.setup.speech.model;
    const teacher = trainableNetwork(loadModel(folder, { weights: "float32", language }));
    if (this.setup.device === "cpu") return teacher;
    try {
      return placeForTraining(teacher, folder);
    } finally {
      teacher.dispose();
    }
  }

  /** The part of the stage that is about one block. */
  private plannedFor(prefix: string): PlannedStage {
    const { stage, weights, plan } = this.planned;
    const own = (name: string): boolean => name.startsWith(prefix);
    return {
      stage,
      weights: new Map([...weights].map(([modifier, names]) => [modifier, names.filter(own)])),
      plan: new Map([...plan].filter(([name]) => own(name))),
    };
  }

  /** Runs `body` with the weights whose names begin with `prefix` as they are packed, those of `placed` where that is. */
  private withWeights<Result>(
    prefix: string,
    placed: TrainableModel | undefined,
    body: (transform: (name: string, weight: Tensor) => Tensor) => Result,
  ): Result {
    const { state } = this.setup;
    return tidy(() => {
      const names = [...state.plan.keys()].filter((name) => name.startsWith(prefix));
      const effective = new Map(
        names.map((name) => {
          const weight = effectiveWeight(state.layer(name));
          return [name, placed ? copyBeside(placed.parameters().get(name) as Tensor, weight) : weight];
        }),
      );
      return body((name, weight) => effective.get(name) ?? weight);
    });
  }
}

/** The batches with their features on the GPU. */
const onGpu = (batches: BatchSource): BatchSource => ({
  count: (epoch) => batches.count(epoch),
  batch: (epoch, index) => {
    const batch = batches.batch(epoch, index);
    return { ...batch, features: featuresOnDevice(batch.features, "cuda") };
  },
});

/** Gives a network on the GPU the values of these parameters. */
function refresh(placed: TrainableModel, parameters: ReadonlyMap<string, Tensor>): void {
  for (const [name, values] of parameters) (placed.parameters().get(name) as DeviceParameter).restore(values);
  placed.weightsChanged?.();
}

const meanOf = (values: readonly number[]): string => (values.reduce((sum, value) => sum + value, 0) / values.length).toPrecision(3);

/** @throws UsmLiteError UNSUPPORTED_MODEL */
function stacksOf(network: TrainableModel, folder: string): readonly BlockStack[] {
  const stacks = network.blockStacks?.() ?? [];
  if (stacks.length > 0) return stacks;
  throw new UsmLiteError(
    "UNSUPPORTED_MODEL",
    `blockwise trains blocks of encoders and decoders one at a time; ${folder} has none that can be`,
  );
}
