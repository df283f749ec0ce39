/** Reverse-mode differentiation: operations record how to carry gradients back while a tape is open. */
import { UsmLiteError } from "../errors.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { addInPlace } from "./add_in_place.js";

interface Step {
  readonly outputs: readonly Tensor[];
  /**
   * Given the gradient of each output (`undefined` where nothing used it), adds to the gradients of the inputs through
   * {@link Tape.accumulate}. Called when at least one of them is there.
   */
  readonly backward: (gradients: readonly (Tensor | undefined)[], tape: Tape) => void;
}

let active: Tape | undefined;

/** The recording tape, if any. */
export const activeTape = (): Tape | undefined => active;

/**
 * Records operations between {@link Tape.record} and {@link Tape.backward}. Each operation that sees an input with
 * `requiresGrad` calls {@link recordStep} with its backward function.
 *
 * @example
 * weight.requiresGrad = true;
 * const tape = new Tape();
 * const loss = tape.record(() => relativeMeanSquare(linear(input, weight), wanted));
 * tape.backward(loss);
 * tape.gradientOf(weight); // same shape as weight
 */
export class Tape {
  private readonly steps: Step[] = [];
  private readonly gradients = new Map<Tensor, Tensor>();

  /** Runs `body` with this tape recording. Tapes do not nest. */
  record<Result>(body: () => Result): Result {
    if (active) throw new UsmLiteError("INVALID_ARGUMENT", "a tape is already recording; tapes do not nest");
    active = this;
    try {
      return body();
    } finally {
      active = undefined;
    }
  }

  add(step: Step): void {
    this.steps.push(step);
  }

  /**
   * Carries gradients back from `output` to everything it depends on.
   * @param seed gradient of `output`; ones when absent
   */
  backward(output: Tensor, seed?: Tensor): void {
    this.gradients.set(output, keep(seed ?? onesLike(output)));
    for (let index = this.steps.length - 1; index >= 0; index--) {
      const step = this.steps[index] as Step;
      const gradients = step.outputs.map((tensor) => this.gradients.get(tensor));
      if (gradients.every((gradient) => gradient === undefined)) continue;
      tidy(() => step.backward(gradients, this));
      for (const tensor of step.outputs) this.release(tensor); // no later step adds to them
    }
    this.steps.length = 0;
  }

  /** Adds `gradient` (which this tape now owns) to the gradient of `tensor`; ignored when it requires none. */
  accumulate(tensor: Tensor, gradient: Tensor): void {
    if (!tensor.requiresGrad) return;
    const sum = this.gradients.get(tensor);
    if (sum) addInPlace(sum, gradient);
    else this.gradients.set(tensor, keep(gradient));
  }

  /** The gradient of a parameter after {@link Tape.backward}, if it took part. */
  gradientOf(tensor: Tensor): Tensor | undefined {
    return this.gradients.get(tensor);
  }

  /** Releases all gradients. */
  dispose(): void {
    for (const gradient of this.gradients.values()) gradient.dispose();
    this.gradients.clear();
    this.steps.length = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private release(tensor: Tensor): void {
    this.gradients.get(tensor)?.dispose();
    this.gradients.delete(tensor);
  }
}

function onesLike(x: Tensor): Tensor {
  const ones = Tensor.from(new Float32Array(x.size).fill(1), x.shape);
  return x instanceof DeviceTensor ? DeviceTensor.from(ones, x.type === "float32" ? "float32" : "bfloat16") : ones;
}

/**
 * Runs `body`. While no tape records, nothing goes back through what it made, so all of it but the result is released
 * at once: a forward pass then needs the memory of its largest module, not of all of them.
 */
export function releaseUnlessRecording<Result>(body: () => Result): Result {
  return active ? body() : tidy(body);
}

/** Runs `body` as if no tape recorded: nothing that it computes is trained. */
export function withoutRecording<Result>(body: () => Result): Result {
  const suspended = active;
  active = undefined;
  try {
    return body();
  } finally {
    active = suspended;
  }
}

/** Whether an operation on `inputs` must be recorded: a tape is open and one of them requires a gradient. */
export function isRecording(inputs: readonly (Tensor | undefined)[]): boolean {
  return active !== undefined && inputs.some((input) => input?.requiresGrad);
}

/**
 * Called by every operation: marks `output` as dependent and stores its backward function, when a tape records and
 * one of `inputs` requires a gradient. Returns `output`.
 */
export function recordStep(
  output: Tensor,
  inputs: readonly (Tensor | undefined)[],
  backward: (gradient: Tensor, tape: Tape) => void,
): Tensor {
  recordStepOf([output], inputs, ([gradient], tape) => backward(gradient as Tensor, tape));
  return output;
}

/**
 * {@link recordStep} for an operation with several outputs. `backward` receives one gradient per output, `undefined`
 * for an output that nothing used.
 */
export function recordStepOf(
  outputs: readonly Tensor[],
  inputs: readonly (Tensor | undefined)[],
  backward: (gradients: readonly (Tensor | undefined)[], tape: Tape) => void,
): void {
  if (!active || !isRecording(inputs)) return;
  for (const output of outputs) output.requiresGrad = true;
  active.add({ outputs, backward });
}
