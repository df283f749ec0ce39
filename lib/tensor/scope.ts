/** Scopes: tensors made inside one are released together at its end, without waiting for the garbage collector. */

/** What scopes release: tensors, on the host or on a GPU. */
export interface Releasable {
  readonly handle: object;
  dispose(): void;
}

type Scope = Set<Releasable>;

const scopes: Scope[] = [];

/** Called for every new tensor. */
export function trackInScope(tensor: Releasable): void {
  scopes.at(-1)?.add(tensor);
}

/**
 * Takes `tensor` out of every open scope: its owner disposes of it. Returns it.
 *
 * @example
 * let scores: Tensor | undefined;
 * tidy(() => void (scores = keep(softmax(x)))); // still there afterwards
 */
export function keep<T extends Releasable>(tensor: T): T {
  for (const scope of scopes) scope.delete(tensor);
  return tensor;
}

/**
 * Runs `body` and releases every tensor made meanwhile, except those in its result (a tensor, or an array, object or
 * map of results), which move to the enclosing scope.
 *
 * @example
 * const probabilities = tidy(() => softmax(linear(input, weight)));
 */
export function tidy<Result>(body: () => Result): Result {
  const scope: Scope = new Set();
  scopes.push(scope);
  try {
    const result = body();
    for (const tensor of tensorsIn(result)) {
      if (scope.delete(tensor)) scopes.at(-2)?.add(tensor);
    }
    return result;
  } finally {
    scopes.pop();
    for (const tensor of scope) tensor.dispose();
  }
}

function* tensorsIn(value: unknown): Generator<Releasable> {
  if (typeof value !== "object" || value === null) return;
  if ("handle" in value && "dispose" in value) {
    yield value as Releasable;
  } else if (value instanceof Map) {
    for (const element of value.values()) yield* tensorsIn(element);
  } else if (Array.isArray(value)) {
    for (const element of value) yield* tensorsIn(element);
  } else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const element of Object.values(value)) yield* tensorsIn(element);
  }
}
