/**
 * Regular expressions that somebody else wrote: in a downloaded tokenizer.json, or a recipe. JavaScript matches them by backtracking, which takes
 * a time that is exponential in the length of a text for expressions as short as `(a+)+b`. What an expression costs cannot be read off it in a few
 * lines, and engines without backtracking (RE2 and its ports) have no lookahead, as byte-level tokenizers use, and another `\s`. So
 * they are given a time that is a thousand times what any text needs, and the interpreter ends those that take longer.
 */
import { createContext, Script } from "node:vm";

/** For one text. */
const limitMs = 200;
/** Of which so many must have passed while this process computed: it may have stood still meanwhile, on a machine that is busy. */
const tries = 2;
const mostTries = 50;

const script = new Script("action()");
const sandbox: { action?: () => unknown } = {};
const context = createContext(sandbox);

/**
 * What `action` gives, which nothing but the time that it takes can go wrong with. It costs about 70 µs more than a call.
 * @returns undefined when it takes too long; it is stopped then
 */
function withinTime<Result extends object | string | boolean>(action: () => Result): Result | undefined {
  for (let attempt = 0, counted = 0; counted < tries && attempt < mostTries; attempt++) {
    const before = process.cpuUsage();
    try {
      sandbox.action = action;
      return script.runInContext(context, { timeout: limitMs }) as Result;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
      const { user, system } = process.cpuUsage(before);
      if (user + system > (limitMs / 2) * 1000) counted++;
    }
  }
  return undefined;
}

export class ForeignExpression {
  private readonly expression: RegExp;

  /**
   * @param onTooSlow told a text that the expression takes too long for; throws
   * @throws SyntaxError as `RegExp` does
   */
  constructor(
    source: string,
    flags: string,
    private readonly onTooSlow: (text: string) => never,
  ) {
    this.expression = new RegExp(source, flags);
    this.test(""); // some are found to be too large only when they are used
  }

  test(text: string): boolean {
    return this.on(text, () => text.search(this.expression) >= 0);
  }

  /** `text` with `content` in the place of matches. */
  replace(text: string, content: string): string {
    return this.on(text, () => text.replace(this.expression, () => content));
  }

  /** All matches, which needs the flag g. */
  matches(text: string): RegExpExecArray[] {
    return this.on(text, () => [...text.matchAll(this.expression)]);
  }

  private on<Result extends object | string | boolean>(text: string, action: () => Result): Result {
    return withinTime(action) ?? this.onTooSlow(text);
  }
}
