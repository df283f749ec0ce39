/** Log-mel energies of overlapping frames, computed natively in float64; every log-mel front end is made of them. */
import { DeviceLogMel, type Framing } from "../device/device_log_mel.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

/**
 * Hann window whose last sample equals the first (`symmetric`), or whose next would (`periodic`); or Kaldi's, the symmetric one to the
 * power 0.85.
 */
type Window = "symmetric" | "periodic" | "povey";

/** The native tables of a front end. */
type NativePlan = object;

interface LogMelBindings {
  logMelCreate(
    sampleRate: number,
    windowLength: number,
    hopLength: number,
    fftLength: number,
    melBins: number,
    lowerEdge: number,
    upperEdge: number,
    floor: number,
    slaneyMel: boolean,
    window: Window,
    addedFloor: boolean,
    framePreemphasis?: number,
  ): NativePlan;
  logMel(plan: NativePlan, samples: Float32Array): TensorHandle;
}

const native = addon as LogMelBindings;

interface LogMelSettings {
  /** Hz */
  readonly samplingRate: number;
  readonly featureSize: number;
  /** Samples. */
  readonly hopLength: number;
  /** Samples: even, a product of twos and fives. */
  readonly fftLength: number;
  /** Samples, at most `fftLength`. */
  readonly windowLength: number;
  /** Hz: where the first filter begins and the last ends. */
  readonly edges: readonly [lower: number, upper: number];
  /** `htk`: triangles 1 high on the scale of HTK and Kaldi. `slaney`: triangles of equal area in Hz, as librosa makes them. */
  readonly melScale: "htk" | "slaney";
  readonly window: Window;
  /**
   * As Kaldi has it: the mean of its samples is taken off each frame, then this share of the sample before off each sample, the first being
   * its own predecessor. Absent: frames stay as they are.
   */
  readonly framePreemphasis?: number;
  /** The logarithm is taken of energies of at least `smallest`, or with `added` added to them. */
  readonly floor: { readonly smallest: number } | { readonly added: number };
}

export class LogMelPlan {
  private readonly plan: NativePlan;

  /** @throws UsmLiteError BAD_CONFIG, beginning with `source`, when the numbers make no sense together */
  constructor(
    private readonly settings: LogMelSettings,
    source: string,
  ) {
    const { samplingRate, windowLength, hopLength, fftLength, featureSize, edges, melScale, window, floor, framePreemphasis } = settings;
    const added = "added" in floor;
    try {
      this.plan = native.logMelCreate(
        samplingRate,
        windowLength,
        hopLength,
        fftLength,
        featureSize,
        ...edges,
        added ? floor.added : floor.smallest,
        melScale === "slaney",
        window,
        added,
        framePreemphasis,
      );
    } catch (error) {
      if (!(error instanceof UsmLiteError)) throw error;
      throw new UsmLiteError("BAD_CONFIG", `${source}: ${error.message}`, { cause: error });
    }
  }

  /** Frames that `samples` samples give: floor((samples - windowLength) / hopLength) + 1, or 0. */
  frames(samples: number): number {
    const { windowLength, hopLength } = this.settings;
    return samples < windowLength ? 0 : Math.floor((samples - windowLength) / hopLength) + 1;
  }

  /** Natural logarithms, float32 (frames, featureSize); frame f covers the `windowLength` samples from f * hopLength on. */
  compute(samples: Float32Array): Tensor {
    return new Tensor(native.logMel(this.plan, samples));
  }

  /** The same on the GPU. @throws UsmLiteError as {@link DeviceLogMel} */
  onGpu(framing: Framing): DeviceLogMel {
    return new DeviceLogMel(this.plan, framing);
  }
}
