/** Objects that own something in native memory. */

/** What the addon gives for such an object; operations pass it back to the addon. */
export interface NativeHandle {
  readonly released: boolean;
  release(): void;
}

/** Holds on to its native object until it is disposed of, or by `using` until the block ends; operations on it then throw `TENSOR_RELEASED`. */
export abstract class NativeObject<Handle extends NativeHandle = NativeHandle> implements Disposable {
  constructor(readonly handle: Handle) {}

  get released(): boolean {
    return this.handle.released;
  }

  /** Lets go of the native object. Safe to call twice. */
  dispose(): void {
    this.handle.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
