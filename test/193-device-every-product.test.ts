// As on a Hopper; test 146 has the same for the kernels of GPUs before it.
import "./gpu.js"; // first: it chooses the GPU that the addon finds
import test from "ava";
import { assertEveryProduct } from "./every_product.js";

for (const arithmetic of ["bfloat16", "float16", "int8", "float8"] as const) {
  test(`products by every kernel in ${arithmetic}`, (t) => assertEveryProduct(t, arithmetic));
}
