/** Training by a teacher: its distributions and hidden states beside the transcript (Hinton, Vinyals, Dean 2015). */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceWeightOfOthers } from "../device/softmax_divergence.js";
import { UsmLiteError } from "../errors.js";
import { scaledSum } from "../ops/elementwise.js";
import { relativeMeanSquare } from "../ops/mean_square.js";
import { softmax } from "../ops/softmax.js";
import { softmaxDivergence } from "../ops/softmax_divergence.js";
import { withoutRecording } from "../ops/tape.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { StepValue } from "./step_value.js";
import type { BatchLoss, ForwardOutputs, TrainableModel, TrainingBatch, TrainingContext } from "./trainable_model.js";
import type { TrainingModifier } from "./training_modifier.js";

/** What a student takes from a teacher, and how much. */
export interface DistillationTerms {
  /** Weight of the divergence between the distributions over tokens: of each frame, or of the paths of a transducer. */
  readonly logits: number;
  /** Divides the logits of both; not of a transducer. */
  readonly temperature: number;
  /**
   * Frames that count in the divergence: `all` alike; `non-blank`, those that the teacher gives less than half of their probability to
   * the blank; `weighted`, each with the probability of anything but the blank. Most frames of a CTC model are blanks, and learning to
   * say nothing drowns the rest (blank frame elimination, Tian et al., Interspeech 2022).
   */
  readonly frames: "all" | "non-blank" | "weighted";
  /** Weight of the relative squared distance between hidden states, the mean over {@link DistillationTerms.layers}. */
  readonly hidden: number;
  /** Blocks after which hidden states are compared, from 0. Absent: all. */
  readonly layers?: readonly number[] | undefined;
}

/** Settings of {@link Distillation}. */
export interface DistillationOptions extends DistillationTerms {
  /** Weight of the model's own loss. */
  readonly labels: number;
  /** -1: there is none, and all rows count. */
  readonly blankId: number;
}

/**
 * Adds to the loss how far the student's outputs are from a teacher's on the same batch.
 * @throws UsmLiteError INVALID_ARGUMENT in a step when student and teacher do not fit
 *
 * @example
 * const terms = { labels: 1, logits: 1, temperature: 1, frames: "weighted", hidden: 0, blankId: student.blankId } as const;
 * const modifiers = [new Distillation(student, teacher, terms), new WeightQuantization(student, specs)];
 */
export class Distillation implements TrainingModifier {
  private taught: { readonly batch: TrainingBatch; readonly outputs: ForwardOutputs } | undefined;
  private readonly distance = new StepValue();

  /**
   * @param teacher gives nothing but outputs; "self": the student with its weights as they are stored, neither pruned nor quantized
   * @param release called when the run is over
   */
  constructor(
    private readonly model: TrainableModel,
    private readonly teacher: TrainableModel | "self",
    private readonly options: DistillationOptions,
    private readonly release: () => void = () => {},
  ) {}

  beforeStep(): void {
    this.taught = undefined;
  }

  loss(batch: TrainingBatch, context: TrainingContext, next: (context: TrainingContext) => BatchLoss): BatchLoss {
    const keepHidden = this.options.hidden > 0;
    const teacher = this.outputsOf(batch, context, keepHidden);
    const student = next({
      ...context,
      keepHidden: keepHidden || (context.keepHidden ?? false),
      ...(teacher.lattice ? { teacherLattice: teacher.lattice } : {}),
    });
    if (!student.outputs) throw new UsmLiteError("INTERNAL", "a model gave no outputs to distil");
    const distance = distanceFrom(teacher, student.outputs, this.options, this.options.blankId);
    if (!distance) return student;
    this.distance.set(distance);
    return {
      ...student,
      loss: scaledSum(student.loss, this.options.labels, distance, 1),
    };
  }

  /** Of the last batch, weighted as it entered the loss. */
  metrics(): Readonly<Record<string, number>> {
    return { distillation: this.distance.read() };
  }

  dispose(): void {
    this.distance.dispose();
    this.release();
  }

  /** What the teacher makes of a batch; once, however often the student sees it. */
  private outputsOf(batch: TrainingBatch, context: TrainingContext, keepHidden: boolean): ForwardOutputs {
    if (this.taught?.batch === batch) return this.taught.outputs;
    const { transformWeight: _, packedWeight: __, ...plain } = context; // what the student multiplies by is not the teacher's
    const model = this.teacher === "self" ? this.model : this.teacher;
    const outputs = withoutRecording(() =>
      teacherOutputs(model, batch, { ...plain, training: false, keepHidden, keepLattice: this.options.logits > 0 }),
    );
    this.taught = { batch, outputs };
    return outputs;
  }
}

function teacherOutputs(model: TrainableModel, batch: TrainingBatch, context: TrainingContext): ForwardOutputs {
  const outputs = model.outputs ? model.outputs(batch, context) : model.loss(batch, context).outputs;
  if (!outputs) throw new UsmLiteError("INTERNAL", "a model gave no outputs to learn from");
  return outputs;
}

/**
 * The weighted sum of all terms, recorded for the student; undefined when there is none.
 * @throws UsmLiteError INVALID_ARGUMENT when the outputs do not compare
 */
export function distanceFrom(
  teacher: ForwardOutputs,
  student: ForwardOutputs,
  terms: DistillationTerms,
  blankId: number,
): Tensor | undefined {
  const parts: { readonly value: Tensor; readonly weight: number }[] = [];
  if (terms.logits > 0) {
    parts.push({ value: student.divergence ?? byFrame(teacher, student, terms, blankId), weight: terms.logits });
  }
  if (terms.hidden > 0) {
    const layers = terms.layers ?? (teacher.hidden ?? []).map((_, layer) => layer);
    const pairs = layers.flatMap((layer) => {
      const [from, to] = [teacher.hidden?.[layer], student.hidden?.[layer]];
      if (!from)
        throw new UsmLiteError(
          "INVALID_ARGUMENT",
          `there is no block ${layer} in the teacher; the last is ${(teacher.hidden ?? []).length - 1}`,
        );
      return to ? [[from, to] as const] : []; // a block of the student was dropped in this step
    });
    for (const [from, to] of pairs) {
      checkAlike("hidden states", from, to);
      parts.push({ value: relativeMeanSquare(to, from), weight: terms.hidden / pairs.length });
    }
  }
  return parts.reduce<Tensor | undefined>(
    (sum, { value, weight }) => (sum ? scaledSum(sum, 1, value, weight) : scaledSum(value, weight, value, 0)),
    undefined,
  );
}

function byFrame(
  { logits: teacher }: ForwardOutputs,
  { logits: student }: ForwardOutputs,
  { frames, temperature }: DistillationTerms,
  blankId: number,
): Tensor {
  if (!teacher || !student) throw new UsmLiteError("INTERNAL", "a model gave no logits to distil");
  checkAlike("logits", teacher, student);
  const weights = frameWeights(teacher, blankId, frames);
  return softmaxDivergence(student, teacher, { temperature, ...(weights ? { weights } : {}) });
}

function checkAlike(what: string, teacher: Tensor, student: Tensor): void {
  if (teacher.shape.join() === student.shape.join()) return;
  throw new UsmLiteError(
    "INVALID_ARGUMENT",
    `${what} of the teacher have shape (${teacher.shape.join(", ")}) but those of the student (${student.shape.join(", ")})`,
  );
}

/** On the GPU for logits there; undefined: all rows count alike. */
function frameWeights(logits: Tensor, blankId: number, frames: DistillationTerms["frames"]): Float32Array | DeviceTensor | undefined {
  if (frames === "all" || blankId < 0) return undefined;
  if (logits instanceof DeviceTensor) return deviceWeightOfOthers(logits, blankId, { whole: frames === "non-blank" });
  return tidy(() => {
    const weightOf = (blank: number): number => (frames === "weighted" ? 1 - blank : Number(1 - blank > 0.5));
    const vocabulary = logits.dim(1);
    const probabilities = softmax(logits).toArray();
    return Float32Array.from({ length: logits.dim(0) }, (_, frame) => weightOf(probabilities[frame * vocabulary + blankId] as number));
  });
}
