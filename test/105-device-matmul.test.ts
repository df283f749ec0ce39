import { assertClose, onlySmall, realGpu } from "./gpu.js";
import test from "ava";
import { deviceMatmul, DeviceTensor, linear, tidy, UsmLiteError } from "../lib/operations.js";
import { randomTensor } from "./gradient.js";

test("the product of two matrices is that of their rounded values", (t) => {
  const shapes = [
    [1, 8, 8],
    [70, 130, 200],
    [130, 64, 72],
    [290, 140, 65],
  ] as const;
  const largeShapes = [
    [1000, 1032, 520],
    [4100, 2048, 1024],
  ] as const;
  for (const type of ["bfloat16", "float16"] as const) {
    for (const [tokens, channels, inputs] of realGpu && !onlySmall ? [...shapes, ...largeShapes] : shapes) {
      tidy(() => {
        const x = DeviceTensor.from(randomTensor([tokens, inputs], 1), type);
        const w = DeviceTensor.from(randomTensor([channels, inputs], 2), type);
        const y = deviceMatmul(x, w);
        t.is(y.type, type);
        const expected = linear(x.toTensor(), w.toTensor()).toArray();
        assertClose(
          t,
          y.toTensor().toArray(),
          expected,
          type === "float16" ? 2 ** -10 : 2 ** -8,
          `${type} (${tokens}, ${channels}, ${inputs})`,
        );
      });
    }
  }
  tidy(() => t.deepEqual(deviceMatmul(DeviceTensor.zeros([0, 8]), DeviceTensor.zeros([3, 8])).shape, [0, 3]));
});

test("matrices that do not fit are coded errors", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  tidy(() => {
    const x = DeviceTensor.zeros([2, 8]);
    t.throws(() => deviceMatmul(x, DeviceTensor.zeros([3, 9])), { ...invalid, message: /as many inputs/ });
    t.throws(() => deviceMatmul(x, DeviceTensor.zeros([8])), invalid);
    t.throws(() => deviceMatmul(x, DeviceTensor.zeros([3, 8], "float16")), { ...invalid, message: /both be bfloat16/ });
    t.throws(() => deviceMatmul(DeviceTensor.zeros([2, 8], "float32"), DeviceTensor.zeros([3, 8], "float32")), invalid);
    t.throws(() => deviceMatmul(x, "w" as unknown as DeviceTensor), invalid);
  });
});
