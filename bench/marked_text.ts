/** Text of a page that a program writes: what lies between two comments. */
import { readFileSync, writeFileSync } from "node:fs";

/** Puts `text` between the marks of `name`, which the page has already. Throws an Error when it lacks them. */
export function writeMarkedText(path: string, name: string, text: string): void {
  const [begin, end] = [`<!-- ${name}: written by a program -->`, `<!-- end of ${name} -->`];
  const before = readFileSync(path, "utf8");
  const [from, to] = [before.indexOf(begin), before.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} has no place for ${name}: it needs the line ${begin} and after it ${end}`);
  writeFileSync(path, `${before.slice(0, from)}${begin}\n\n${text}\n\n${before.slice(to)}`);
}
