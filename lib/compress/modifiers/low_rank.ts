/** `low-rank`: replaces weights by products of two thin ones. For comparison: the file keeps the product, not the factors. */
import { z } from "zod";
import { lowRankBytes, lowRankFactors, rankWithin } from "../../oneshot/low_rank.js";
import { matmul } from "../../ops/matmul.js";
import { fakeQuantize } from "../../quant/fake_quantize.js";
import { weightMatrixShape, weightOfMatrix } from "../../quant/weight_matrix.js";
import { calibrationSchema, compressWithSpeech } from "../calibration.js";
import { modifierType, specSchema } from "../modifier.js";

const keys = {
  /** Bytes of both factors, as a share of the weight in float32. */
  share: z.number().gt(0).max(1),
  /** How the factors are coded. */
  factors: specSchema.prefault("float32"),
  calibration: calibrationSchema.prefault({}),
};

export const lowRank = modifierType("low-rank", keys, ({ share, factors, calibration }) => ({
  speech: calibration,
  calibrate: async (setup) => {
    let bytes = 0;
    let whole = 0;
    await compressWithSpeech(setup, calibration, ({ weight, spec }, inputs) => {
      const [rows, columns] = weightMatrixShape(weight.shape);
      const rank = Math.max(1, rankWithin(share * 4 * rows * columns, rows, columns, factors.text));
      const { left, right } = lowRankFactors(weight, rank, inputs);
      bytes += lowRankBytes(rank, rows, columns, factors.text);
      whole += 4 * rows * columns;
      return { spec, weight: weightOfMatrix(matmul(fakeQuantize(left, factors.text), fakeQuantize(right, factors.text)), weight.shape) };
    });
    setup.onStatus(
      `as ${factors.text} factors these layers would take ${bytes} bytes, ${((100 * bytes) / whole).toFixed(2)} % of float32; ` +
        "the model keeps their products, which take what their spec says",
    );
  },
}));
