import "./gpu.js";
import test, { type ExecutionContext } from "ava";
import { DeviceTensor, Tensor, tidy } from "../lib/operations.js";
import { availableInstructionSets, setInstructionSet } from "../lib/native/runtime.js";
import { chooseTokens, ExcludedTokens, type AllowedTokens, type TokenChoice } from "../lib/ops/token_choice.js";
import { randomValues } from "./gradient.js";

interface Case {
  readonly vocabulary: number;
  readonly count: number;
  readonly spread: number;
  readonly allowed: readonly AllowedTokens[];
}

const free: AllowedTokens = { without: 0, forbidden: [] };
const cases: readonly Case[] = [
  { vocabulary: 1, count: 1, spread: 1, allowed: [free] },
  { vocabulary: 13, count: 5, spread: 3, allowed: [free, { without: 1, forbidden: [] }, { without: 1, forbidden: [[0, 9]] }] },
  {
    vocabulary: 300,
    count: 1,
    spread: 4,
    allowed: [
      {
        without: 1,
        forbidden: [
          [40, 41],
          [250, Infinity],
        ],
        together: 200,
      },
      {
        without: 0,
        forbidden: [
          [0, 200],
          [200, 230],
        ],
        together: 200,
      },
      { without: 0, forbidden: [[200, Infinity]], together: 200 },
      { without: 0, forbidden: [], together: 0 },
      {
        without: 0,
        forbidden: [
          [100, 180],
          [90, 120],
        ],
      },
    ],
  },
  { vocabulary: 2051, count: 9, spread: 60, allowed: [{ without: 1, forbidden: [[7, 1000]], together: 1500 }, free] },
  {
    vocabulary: 2051,
    count: 3,
    spread: 0.01,
    allowed: [
      { ...free, together: 2000 },
      { ...free, together: 40 },
    ],
  },
];

/** What {@link chooseTokens} says, a number at a time. */
function expectedChoices(
  scores: Float32Array,
  never: readonly number[],
  { forbidden, together = Infinity }: AllowedTokens,
  count: number,
): TokenChoice[] {
  const logSum = (ids: readonly number[]): number => {
    const largest = Math.max(...ids.map((id) => scores[id] as number));
    return ids.length === 0 ? -Infinity : largest + Math.log(ids.reduce((sum, id) => sum + Math.exp((scores[id] as number) - largest), 0));
  };
  const all = [...scores.keys()];
  let allowed = all.filter((id) => !never.includes(id) && !forbidden.some(([begin, end]) => id >= begin && id < end));
  const from = allowed.filter((id) => id >= together);
  const before = allowed.filter((id) => id < together);
  if (logSum(from) > Math.max(-Infinity, ...before.map((id) => scores[id] as number))) allowed = from;
  return [...allowed]
    .sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b)
    .slice(0, count)
    .map((id) => ({
      id,
      logProbability: (scores[id] as number) - logSum(all),
      allowedLogProbability: (scores[id] as number) - logSum(allowed),
    }));
}

const neverOf = (vocabulary: number): number[] => Array.from({ length: vocabulary }, (_, id) => id).filter((id) => id % 7 === 3);

/** @param place where scores of a case are put */
function compare(t: ExecutionContext, place: (scores: Tensor) => Tensor, tolerance: number): void {
  cases.forEach(({ vocabulary, count, spread, allowed }, index) => {
    tidy(() => {
      const never = neverOf(vocabulary);
      using excluded = new ExcludedTokens(vocabulary, [[], [...never, vocabulary + 4]]);
      const random = randomValues(allowed.length * vocabulary, index + 1).map((value) => spread * value);
      const scores = place(Tensor.from(random, [allowed.length, vocabulary]));
      const values = scores instanceof DeviceTensor ? scores.toTensor().toArray() : scores.toArray();
      const choices = chooseTokens(scores, excluded, allowed, count);
      allowed.forEach((rules, row) => {
        const name = `case ${index}, row ${row}`;
        const expected = expectedChoices(
          values.subarray(row * vocabulary, (row + 1) * vocabulary),
          rules.without === 1 ? never : [],
          rules,
          count,
        );
        t.deepEqual(
          choices[row]?.map(({ id }) => id),
          expected.map(({ id }) => id),
          name,
        );
        expected.forEach((wanted, at) => {
          const got = choices[row]?.[at] as TokenChoice;
          for (const key of ["logProbability", "allowedLogProbability"] as const) {
            const error = Math.abs(got[key] - wanted[key]) / Math.max(1, Math.abs(wanted[key]));
            t.true(error <= tolerance, `${name}, choice ${at}: ${key} ${got[key]}, not ${wanted[key]}`);
          }
        });
      });
    });
  });
}

test.serial("the likeliest tokens that may come, and their probabilities, with every instruction set", (t) => {
  for (const name of availableInstructionSets()) {
    setInstructionSet(name);
    compare(t, (scores) => scores, 2e-6);
  }
});

test("the GPU finds the same tokens, in both types", (t) => {
  for (const type of ["bfloat16", "float16"] as const) compare(t, (scores) => DeviceTensor.from(scores, type), 1e-5);
});

test("of equals the first comes, and scores that are not numbers are told apart from tokens that may not come", (t) => {
  using excluded = new ExcludedTokens(40, [[0]]);
  const rows = [
    new Float32Array(40),
    new Float32Array(40).fill(NaN, 20, 21),
    new Float32Array(40).fill(-Infinity, 2),
    new Float32Array(40),
  ];
  (rows[3] as Float32Array)[39] = Infinity;
  const scores = Tensor.from(
    rows.flatMap((row) => [...row]),
    [4, 40],
  );
  for (const [name, placed] of [
    ...availableInstructionSets().map((set) => [set, scores] as const),
    ["GPU", DeviceTensor.from(scores)] as const,
  ]) {
    if (name !== "GPU") setInstructionSet(name);
    const choices = chooseTokens(
      placed,
      excluded,
      Array.from(rows, () => ({ without: 0, forbidden: [] })),
      3,
    );
    t.deepEqual(
      choices[0]?.map(({ id }) => id),
      [1, 2, 3],
      name,
    );
    for (const row of [1, 3]) t.true(Number.isNaN(choices[row]?.[0]?.logProbability), `${name}, row ${row}`);
    t.deepEqual(
      choices[2]?.map(({ id }) => id),
      [1],
      `${name}: what is impossible does not come`,
    );
    t.deepEqual(chooseTokens(placed.rows(0, 1), excluded, [{ without: 0, forbidden: [[0, 40]] }]), [[]], `${name}: nothing may come`);
  }
});

test("rules about tokens that do not exist are refused", (t) => {
  using excluded = new ExcludedTokens(8, [[]]);
  for (const scores of [Tensor.zeros([1, 8]), DeviceTensor.zeros([1, 8])]) {
    const choose =
      (rules: Partial<AllowedTokens>, count = 1) =>
      () =>
        chooseTokens(scores, excluded, [{ ...free, ...rules }], count);
    t.throws(choose({ without: 1 }), { code: "INVALID_ARGUMENT", message: /no bias 1/ });
    t.throws(choose({ forbidden: [[-1, 4]] }), { code: "INVALID_ARGUMENT", message: /token -1/ });
    t.throws(choose({}, 0), { code: "INVALID_ARGUMENT" });
    t.throws(choose({}, 65), { code: "INVALID_ARGUMENT" });
    t.throws(() => chooseTokens(scores, excluded, [free, free]), { code: "INVALID_ARGUMENT", message: /rules/ });
    using other = new ExcludedTokens(9, [[]]);
    t.throws(() => chooseTokens(scores, other, [free]), { code: "INVALID_ARGUMENT" });
  }
});
