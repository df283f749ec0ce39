/** The search of a model that encodes and writes window after window: all of it with the adapter of one speaker. */
import type { Adapter } from "../adapt/adapter.js";
import type { Hypothesis, LogProbabilities } from "../decode/hypothesis.js";
import { withAdapters, type SharedAdapters } from "../nn/adapter_scope.js";
import type { Search } from "./decoding.js";

export class AdaptedSearch implements Search {
  private readonly scope: SharedAdapters;

  constructor(
    private readonly search: Search,
    { factors }: Adapter,
  ) {
    this.scope = { kind: "all", adapters: [{ factors, scale: 1 }] };
  }

  advance(input: LogProbabilities): void {
    withAdapters(this.scope, () => this.search.advance(input));
  }

  best(): Hypothesis[] {
    return withAdapters(this.scope, () => this.search.best());
  }

  settledText(): string {
    return this.search.settledText();
  }
}
