/** `smooth`: moves outliers of activations into weights, which changes nothing until both are quantized (SmoothQuant). */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { InputMaxima } from "../../oneshot/input_maxima.js";
import { scaleColumns, smoothingScales } from "../../oneshot/smoothing.js";
import { Tensor } from "../../tensor/tensor.js";
import { tidy } from "../../tensor/scope.js";
import { calibrationSchema, forwardSpeech } from "../calibration.js";
import { layerName } from "../layer_selection.js";
import { modifierType, type CalibrationSetup } from "../modifier.js";

const keys = {
  /** How much of the difficulty goes from activations to weights: 0 evens out the weights alone, 1 the activations alone. */
  alpha: z.number().min(0).max(1).default(0.5),
  calibration: calibrationSchema.omit({ sequential: true }).prefault({}),
};

export const smooth = modifierType("smooth", keys, ({ alpha, calibration }) => ({
  // In floats the blocks put out the same after smoothing: one pass is enough for all.
  speech: { ...calibration, sequential: false },
  calibrate: async (setup) => {
    const groups = smoothedNorms(setup);
    const batches = await setup.calibrationBatches(calibration);
    const inputs = new InputMaxima(groups.map(firstReader));
    forwardSpeech(setup, batches, new Set(setup.layers), inputs.observe);
    // All scales before the first weight changes: what is wrong leaves the model as it was.
    const scales = groups.map((group) => {
      const weights = group.readers.map((name) => setup.state.layer(name).weight);
      return smoothingScales(inputs.of(firstReader(group)), weights, alpha);
    });
    groups.forEach(({ norm, readers }, index) => {
      const scale = scales[index] as Float32Array;
      tidy(() => {
        for (const name of readers) setup.state.update(name, { weight: scaleColumns(setup.state.layer(name).weight, scale) });
        for (const name of norm) setup.state.update(name, { weight: divided(setup.state.layer(name).weight, scale) });
      });
    });
    setup.onStatus(`smoothed the output of ${groups.length} norms`);
  },
}));

const firstReader = ({ readers }: NormReaders): string => readers[0] as string;

const divided = (vector: Tensor, scale: Float32Array): Tensor =>
  Tensor.from(
    (vector.toArray() as Float32Array).map((value, j) => value / (scale[j] as number)),
    vector.shape,
  );

/**
 * The norms that the selected layers read. Selected layers that read none stay as they are.
 * @throws UsmLiteError UNSUPPORTED_MODEL when the model has no norm that is known; BAD_RECIPE when the selected layers read none, are only
 * some of those that read one, or have been rounded before
 */
function smoothedNorms({ model, state, layers }: CalibrationSetup): readonly NormReaders[] {
  const known = model.normReaders?.() ?? [];
  if (known.length === 0) {
    throw new UsmLiteError(
      "UNSUPPORTED_MODEL",
      "this model has no norm whose output goes to linear layers alone: where blocks normalize after their sums, it is also added to theirs",
    );
  }
  const selected = new Set(layers);
  const groups = known.filter(({ readers }) => readers.some((name) => selected.has(name)));
  if (groups.length === 0) {
    const first = layerName(firstReader(known[0] as NormReaders));
    throw new UsmLiteError("BAD_RECIPE", `none of its layers reads the output of a norm; those that do are like "${first}"`);
  }
  for (const name of groups.flatMap(({ readers }) => readers)) {
    if (!selected.has(name)) {
      const { norm, readers } = groups.find((group) => group.readers.includes(name)) as NormReaders;
      const all = readers.map((reader) => `"${layerName(reader)}"`).join(", ");
      throw new UsmLiteError("BAD_RECIPE", `${all} read "${layerName(norm[0] as string)}" together; name all of them or none`);
    }
    if (state.coding(name).scale) {
      throw new UsmLiteError("BAD_RECIPE", `"${layerName(name)}" has been rounded before; smooth belongs before what quantizes`);
    }
  }
  return groups;
}
