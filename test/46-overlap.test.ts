import test from "ava";
import { ChunkJoiner } from "../lib/decode/overlap.js";
import { ctcGreedy, joinChunks, planChunks } from "../lib/operations.js";
import { clearLattice, randomLattice, tokenizerOf } from "./lattice.js";

test("chunks cover everything, overlap as asked, and fall on multiples", (t) => {
  t.deepEqual(planChunks(100, 40, 10), [
    { begin: 0, end: 40 },
    { begin: 30, end: 70 },
    { begin: 60, end: 100 },
  ]);
  t.deepEqual(planChunks(40, 40, 10), [{ begin: 0, end: 40 }]);
  t.deepEqual(planChunks(0, 40, 10), [{ begin: 0, end: 0 }]);
  for (let length = 1; length < 300; length += 7) {
    const chunks = planChunks(length, 40, 8, 4);
    t.is(chunks[0]?.begin, 0);
    t.is(chunks.at(-1)?.end, length);
    chunks.forEach(({ begin, end }, i) => {
      t.is(begin % 4, 0);
      t.true(end - begin <= 40 && end > begin);
      if (i > 0) t.true((chunks[i - 1]?.end as number) - begin >= 8, `length ${length}`);
    });
  }
  t.throws(() => planChunks(100, 40, 40), { code: "INVALID_ARGUMENT" });
  t.throws(() => planChunks(100, 42, 8, 4), { code: "INVALID_ARGUMENT", message: /multiples of 4/ });
});

test("chunks of one sequence join to that sequence", (t) => {
  const whole = randomLattice(100, 5, 3);
  const chunks = planChunks(100, 30, 12).map(({ begin, end }) => ({
    values: whole.values.slice(begin * 5, end * 5),
    frames: end - begin,
    tokens: 5,
    firstFrame: begin,
  }));
  t.true(chunks.length > 3);
  t.deepEqual(joinChunks(chunks), whole);
  t.deepEqual(joinChunks(chunks.slice(0, 1)), { values: chunks[0]?.values, frames: 30, tokens: 5 });
});

test("a token near the cut is neither lost nor said twice, though chunks place it differently", (t) => {
  const tokenizer = tokenizerOf(["▁A", "▁B", "▁C"]);
  // Frames 0..9 and 4..13 overlap in 4..9; the middle falls on B, which the chunks hear one frame apart.
  const before = { ...clearLattice([0, 1, 0, 0, 0, 0, 2, 2, 0, 0], 4), firstFrame: 0 };
  const after = { ...clearLattice([0, 0, 0, 2, 2, 0, 0, 0, 3, 0], 4), firstFrame: 4 };
  t.is(ctcGreedy(joinChunks([before, after]), tokenizer, { secondsPerFrame: 0.04 }).text, "A B C");
});

test("chunks that leave gaps or are out of order are coded errors", (t) => {
  const chunk = (firstFrame: number, frames: number, tokens = 4) => ({
    ...randomLattice(frames, tokens, 1),
    firstFrame,
  });
  t.throws(() => joinChunks([]), { code: "INVALID_ARGUMENT" });
  t.throws(() => joinChunks([chunk(0, 5), chunk(6, 5)]), { code: "INVALID_ARGUMENT", message: /does not continue/ });
  t.throws(() => joinChunks([chunk(5, 5), chunk(0, 7)]), { code: "INVALID_ARGUMENT" });
  t.throws(() => joinChunks([chunk(0, 9), chunk(3, 2)]), { code: "INVALID_ARGUMENT" });
  t.throws(() => joinChunks([chunk(0, 5), chunk(3, 5, 5)]), { code: "INVALID_ARGUMENT" });
  t.is(joinChunks([chunk(0, 5), chunk(5, 5)]).frames, 10);
});

test("overlaps of chunks that have no blank column are cut in the middle", (t) => {
  const chunk = (firstFrame: number, value: number) => ({
    firstFrame,
    frames: 10,
    tokens: 2,
    values: Float32Array.from({ length: 20 }, (_, i) => (i === (firstFrame === 0 ? 12 : 4) ? 0 : value + i)), // frame 6: a sure blank
  });
  const [before, after] = [chunk(0, -200), chunk(4, -100)];
  const joiner = new ChunkJoiner(undefined);
  t.is(joiner.push(before).frames, 0);
  t.deepEqual(joiner.push(after), { values: before.values.subarray(0, 14), frames: 7, tokens: 2 });
  t.deepEqual(joiner.finish(), { values: after.values.subarray(6), frames: 7, tokens: 2 });
  t.is(joinChunks([before, after], 0).values[13], after.values[5], "at the blank where there is one");
});
