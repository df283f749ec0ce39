/** Products with packed weights, for suite `matmul-cpu`. Turning the activations into whole numbers is part of the work. */
import { PackedMatrix, packedLinear, packWeight, Tensor, tidy } from "../../lib/index.js";
import { timed, type Contestant } from "../measure.js";
import type { MatmulWork } from "../peers/openblas.js";
import { values } from "../values.js";

const specs = ["float32", "int8", "int4", "int4/g128", "int2", "ternary", "int1", "nf4", "int8+2:4", "int4+2:4", "int4+1:4", "uint4+2:4"];

function packedProduct({ transposeA, transposeB, m, n, k }: MatmulWork, spec: string): Contestant | undefined {
  if (transposeA || !transposeB) return undefined;
  const x = Tensor.from(values(m * k), [m, k]);
  const weight = tidy(() => PackedMatrix.from(packWeight(Tensor.from(values(n * k), [n, k]), spec)));
  return {
    impl: "usm-lite",
    spec,
    note: spec === "float32" ? "weights made ready, as PackedMatrix does" : "activations int8 per row",
    run: (repetitions) => timed(() => packedLinear(x, weight).dispose(), repetitions),
    dispose: () => {
      x.dispose();
      weight.dispose();
    },
  };
}

/** One contestant per weight spec; undefined for products that are no forward pass of a linear layer. */
export const packedProducts = specs.map((spec) => (work: MatmulWork) => packedProduct(work, spec));
