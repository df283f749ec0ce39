import test from "ava";
import { formatWeightSpec, parseWeightSpec, UsmLiteError } from "../lib/operations.js";
import { formats, sparsities } from "./weight_formats.js";

test("specs parse and print", (t) => {
  t.deepEqual(parseWeightSpec("int4+2:4"), { text: "int4+2:4", format: "int4", bits: 4, sparsity: { kept: 2, of: 4 } });
  t.deepEqual(parseWeightSpec("int2/g64"), { text: "int2/g64", format: "int2", bits: 2, groupSize: 64 });
  t.deepEqual(parseWeightSpec("1:4"), { text: "float32+1:4", format: "float32", bits: 32, sparsity: { kept: 1, of: 4 } });
  t.deepEqual(parseWeightSpec("float32"), { text: "float32", format: "float32", bits: 32 });
  t.deepEqual(parseWeightSpec("ternary/g128"), { text: "ternary/g128", format: "ternary", bits: 1.6, groupSize: 128 });
  for (const format of formats) {
    for (const sparsity of sparsities) t.is(formatWeightSpec(parseWeightSpec(format + sparsity)), format + sparsity);
  }
});

test("a wrong spec says what would be right", (t) => {
  const wrong = [
    "",
    "int7",
    "int16",
    "uint1",
    "midrise1",
    "ternary2",
    "nf3",
    "int04",
    "INT4",
    "int4+4:4",
    "int4+0:4",
    "int4+2:17",
    "int4+02:4",
    "int4+2",
    "int4+",
    "int4/32",
    "int4/g16",
    "float32/g32",
    "int4/g32/g32",
    "int4+2:4+2:4",
    "2:4/g32",
    "int4 +2:4",
    ":",
    "2:",
    "+2:4",
    "int4+-2:4",
  ];
  for (const text of wrong) {
    const error = t.throws(() => parseWeightSpec(text), { instanceOf: UsmLiteError, code: "UNSUPPORTED_SPEC" }, text);
    t.regex(error?.message ?? "", /for example int4\+2:4/);
  }
  t.throws(() => formatWeightSpec({ format: "int7" }), { code: "UNSUPPORTED_SPEC" });
});
