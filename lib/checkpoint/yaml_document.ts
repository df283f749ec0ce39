/** YAML files checked against schemas piece by piece: what does not fit is an error that names file, line and key. */
import type { Document, LineCounter, YAMLMap } from "yaml";
import type { z } from "zod";
import { UsmLiteError, type UsmLiteErrorCode } from "../errors.js";
import { problemOf } from "./checked_value.js";
import { yamlParser } from "./yaml_parser.js";

/** Those who describe a run write some kilobytes; the parser takes some 100 MB and seconds for what is larger than this. */
const MAXIMUM_CHARACTERS = 500_000;
/** Each is looked for in the whole document. */
const MAXIMUM_ALIASES = 100;

/** Where a value lies in a document: keys of maps and places in lists. */
export type YamlPath = readonly (string | number)[];

export class YamlDocument {
  private readonly document: Document;
  private readonly lines: LineCounter;
  /** The document as JavaScript values. */
  readonly value: unknown;

  /**
   * @param source name of the file, for error messages
   * @param options.code of the errors thrown
   * @param options.hint what to add to the message when a value does not fit
   * @throws UsmLiteError `code`, naming file and line, when `text` is not one YAML document
   */
  constructor(
    text: string,
    readonly source: string,
    private readonly options: { readonly code: UsmLiteErrorCode; readonly hint: string },
  ) {
    if (text.length > MAXIMUM_CHARACTERS) {
      throw new UsmLiteError(
        options.code,
        `${source} has ${text.length} characters; a file that describes a run has ${MAXIMUM_CHARACTERS} at most`,
      );
    }
    const { LineCounter, parseDocument } = yamlParser();
    this.lines = new LineCounter();
    // The parser quotes the file over several lines in pretty errors, and compares each key of a map with all before it.
    this.document = parseDocument(text, { lineCounter: this.lines, prettyErrors: false, uniqueKeys: false });
    const [syntaxError] = this.document.errors;
    if (syntaxError) throw this.invalid(syntaxError.pos[0], syntaxError.message);
    this.checkStructure();
    try {
      this.value = this.document.toJS();
    } catch (cause) {
      // Aliases without an anchor, or so many that they would fill the memory.
      throw new UsmLiteError(options.code, `${source}: ${(cause as Error).message}`, { cause });
    }
  }

  /** What is YAML, but would be lost or ambiguous as a JavaScript value, or take long to become one. */
  private checkStructure(): void {
    const { visit } = yamlParser();
    let aliases = 0;
    visit(this.document, {
      Map: (_, map) => this.checkKeys(map),
      Alias: (_, alias) => {
        if (++aliases > MAXIMUM_ALIASES) throw this.invalid(startOf(alias), `there are more than ${MAXIMUM_ALIASES} aliases in it`);
      },
    });
  }

  private checkKeys(map: YAMLMap): void {
    const { isScalar } = yamlParser();
    const keys = new Set<string>();
    for (const { key } of map.items) {
      if (!isScalar(key)) throw this.invalid(startOf(key) ?? startOf(map), "a key must be a text, neither a map, a list nor an alias");
      const name = String(key.value);
      if (keys.has(name)) throw this.invalid(startOf(key), `Map keys must be unique; "${name.slice(0, 100)}" is there twice`);
      keys.add(name);
    }
  }

  private invalid(offset: number | undefined, problem: string): UsmLiteError {
    return new UsmLiteError(this.options.code, `${this.source}:${this.lines.linePos(offset ?? 0).line}: is not valid YAML: ${problem}`);
  }

  /**
   * The value at `path` as `schema` describes it, defaults filled in. A refinement may give its issue another code by
   * `params: { code }`.
   * @throws UsmLiteError naming file, line and key
   */
  check<Schema extends z.ZodType>(schema: Schema, path: YamlPath = []): z.output<Schema> {
    const value = path.reduce<unknown>((inner, key) => (inner as Record<string | number, unknown> | undefined)?.[key], this.value);
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const [issue] = result.error.issues;
    const inner = (issue?.path ?? []).map((key) => (typeof key === "symbol" ? String(key) : key));
    const at = [...path, ...inner];
    const unknownKey = issue?.code === "unrecognized_keys" ? issue.keys[0] : undefined;
    const code = issue?.code === "custom" ? (issue.params?.["code"] as UsmLiteErrorCode | undefined) : undefined;
    throw this.error(at, `${issue && problemOf(issue)}; ${this.options.hint}`, {
      code,
      line: this.lineOf(unknownKey === undefined ? at : [...at, unknownKey]),
    });
  }

  /** An error about the value at `path`. */
  error(
    path: YamlPath,
    message: string,
    { code, line = this.lineOf(path) }: { code?: UsmLiteErrorCode | undefined; line?: number } = {},
  ): UsmLiteError {
    const key = path.length > 0 ? `key "${path.join(".")}": ` : "";
    return new UsmLiteError(code ?? this.options.code, `${this.source}:${line}: ${key}${message}`);
  }

  /** File and line of the value at `path`, as "recipe.yaml:7". */
  place(path: YamlPath): string {
    return `${this.source}:${this.lineOf(path)}`;
  }

  /** The line, from 1, of the value at `path`, or of the innermost map or list around it that is there. */
  private lineOf(path: YamlPath): number {
    const { isMap, isScalar, isSeq } = yamlParser();
    let node: unknown = this.document.contents;
    let offset = startOf(node) ?? 0;
    for (const key of path) {
      let next: unknown;
      if (isMap(node)) {
        const pair = node.items.find((item) => (isScalar(item.key) ? item.key.value : undefined) === key);
        offset = startOf(pair?.key) ?? offset;
        next = pair?.value;
      } else if (isSeq(node)) {
        next = node.items[Number(key)];
        offset = startOf(next) ?? offset;
      }
      if (next === undefined || next === null) break;
      node = next;
    }
    return this.lines.linePos(offset).line;
  }
}

const startOf = (node: unknown): number | undefined => (node as { range?: readonly number[] | null } | null | undefined)?.range?.[0];
