/** A wish to stop a training run: by a signal of the process or of the caller. */
export class Interruption {
  requested = false;
  private readonly request = (): void => {
    this.requested = true;
  };

  constructor(
    private readonly signal: AbortSignal | undefined,
    private readonly handleSignals: boolean,
  ) {
    this.requested = signal?.aborted ?? false;
    signal?.addEventListener("abort", this.request, { once: true });
    if (!handleSignals) return;
    process.once("SIGINT", this.request);
    process.once("SIGTERM", this.request);
  }

  dispose(): void {
    this.signal?.removeEventListener("abort", this.request);
    if (!this.handleSignals) return;
    process.off("SIGINT", this.request);
    process.off("SIGTERM", this.request);
  }
}
