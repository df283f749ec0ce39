"""Matrix products of the libraries of NVIDIA on a GPU: answers each line of JSON with a line of JSON.

{"peer": "cublaslt-bfloat16", "m": 16, "n": 1024, "k": 1024, "milliseconds": 3, "rounds": 3} is answered with
{"ms": [...], "ways": 12} (the time of each product in each round) or {"error": "..."}; {"ceilings": true} with what this
GPU reaches at best. Products are recorded in a CUDA graph that goes through copies of the weight that together are
larger than the cache, so that neither Python's pace nor the cache is measured.
"""
import json
import sys

import torch

from cublaslt import OUTPUT_TYPES, Cublaslt

CACHE_BYTES = 160 << 20  # what the copies of a weight should exceed: three times the cache of an H100
MOST_COPIES = 64
ROUNDS_TO_CHOOSE = 2


def timed_graph(step, copies, milliseconds):
    """A function that gives the milliseconds of one of many runs of step(copy)."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for copy in range(min(copies, 3)):
            step(copy)
        stream.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for copy in range(3):
            step(copy % copies)
        end.record()
        end.synchronize()
        estimate = max(begin.elapsed_time(end) / 3, 1e-3)
        launches = min(max(copies, int(milliseconds / estimate), 3), 2000)
    graph = torch.cuda.CUDAGraph()
    recorded = True
    try:
        with torch.cuda.graph(graph, stream=stream):
            for i in range(launches):
                step(i % copies)
    except RuntimeError:  # a library that allocates or waits cannot be recorded
        recorded = False
        torch.cuda.synchronize()

    def run():
        with torch.cuda.stream(stream):
            begin.record()
            if recorded:
                graph.replay()
            else:
                for i in range(launches):
                    step(i % copies)
            end.record()
            end.synchronize()
        return begin.elapsed_time(end) / launches

    run.recorded = recorded
    return run


def two_of_four(weight):
    """Zeroes two of every four adjacent inputs."""
    keep = torch.rand(weight.shape[0], weight.shape[1] // 4, 4, device="cuda").argsort(dim=-1) < 2
    return torch.where(keep.reshape(weight.shape), weight, torch.zeros_like(weight))


class Products:
    def __init__(self):
        self.cublaslt = Cublaslt()
        self.shape = None
        self.active = {}  # peers that are ready for that shape

    def tensors(self, kind, m, n, k, copies):
        def of(rows):
            if kind == "int8":
                return torch.randint(-127, 128, (rows, k), dtype=torch.int8, device="cuda")
            values = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
            return values.to(torch.float8_e4m3fn) if kind == "float8" else values

        first = of(n)
        return of(m), [first if i == 0 else first.clone() for i in range(copies)]

    def copies(self, kind, n, k):
        bytes_ = n * k * (2 if kind == "bfloat16" else 1)
        return min(MOST_COPIES, max(1, -(-CACHE_BYTES // bytes_)))

    def prepare_cublaslt(self, kind, m, n, k, milliseconds):
        copies = self.copies(kind, n, k)
        rows = -(-m // 16) * 16 if kind != "bfloat16" else m  # 8-bit products take a multiple of 16
        x, weights = self.tensors(kind, rows, n, k, copies)
        y = torch.empty(rows, n, dtype=OUTPUT_TYPES[kind], device="cuda")
        best = None
        ways = self.cublaslt.ways(kind, rows, n, k)
        for way in ways:
            try:
                run = timed_graph(lambda copy, way=way: way(x, weights[copy], y), copies, milliseconds / 2)
                time = min(run() for _ in range(ROUNDS_TO_CHOOSE))
            except RuntimeError:
                continue
            if best is None or time < best[0]:
                best = (time, run)
        if best is None:
            raise RuntimeError("no way of computing it works")
        return best[1], {"ways": len(ways), "version": self.cublaslt.version}

    def prepare_torch(self, kind, m, n, k, milliseconds):
        copies = self.copies(kind, n, k)
        rows = max(32, -(-m // 16) * 16) if kind != "bfloat16" else m  # torch._int_mm wants more than 16
        x, weights = self.tensors(kind, rows, n, k, copies)
        one = torch.ones((), device="cuda")
        if kind == "bfloat16":
            def step(copy):
                torch.mm(x, weights[copy].t())
        elif kind == "float8":
            def step(copy):
                torch._scaled_mm(x, weights[copy].t(), one, one, out_dtype=torch.bfloat16, use_fast_accum=True)
        else:
            def step(copy):
                torch._int_mm(x, weights[copy].t())
        return timed_graph(step, copies, milliseconds), {"version": torch.__version__}

    def prepare_cusparselt(self, kind, m, n, k, milliseconds):
        copies = self.copies(kind, n, k)
        rows = -(-m // 16) * 16
        x, weights = self.tensors(kind, rows, n, k, 1)
        compressed = [torch._cslt_compress(two_of_four(weights[0]))]
        compressed += [compressed[0].clone() for _ in range(copies - 1)]
        output = torch.bfloat16
        algorithm = 0
        try:
            algorithm = torch._cslt_sparse_mm_search(compressed[0], x.t(), out_dtype=output if kind == "int8" else None)
        except (RuntimeError, AttributeError) as error:
            print(f"cuSPARSELt's search failed: {error}", file=sys.stderr)

        def step(copy):
            torch._cslt_sparse_mm(compressed[copy], x.t(), out_dtype=output if kind == "int8" else None, alg_id=algorithm)

        run = timed_graph(step, copies, milliseconds)
        version = torch.backends.cusparselt.version() if hasattr(torch.backends, "cusparselt") else ""
        return run, {"version": str(version), "algorithm": algorithm}

    def run(self, request):
        shape = (request["m"], request["n"], request["k"])
        if shape != self.shape:
            self.active.clear()
            torch.cuda.empty_cache()
            self.shape = shape
        peer = request["peer"]
        if peer not in self.active:
            library, kind = peer.split("-")
            prepare = {"cublaslt": self.prepare_cublaslt, "torch": self.prepare_torch, "cusparselt": self.prepare_cusparselt}[library]
            self.active[peer] = prepare(kind, *shape, request["milliseconds"])
        run, facts = self.active[peer]
        return {"ms": [run() for _ in range(request["rounds"])], "graph": run.recorded, **facts}

    def ceilings(self):
        """Bytes read and written per second by the best copy; operations per second of the largest products."""
        source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        copy = timed_graph(lambda _: target.copy_(source), 1, 10)
        copy_ms = min(copy() for _ in range(5))
        result = {"bytesPerSecond": 2 * source.numel() / copy_ms * 1e3}
        del source, target
        size = 8192
        for kind in ("bfloat16", "float8", "int8"):
            try:
                run, _ = self.prepare_cublaslt(kind, size, size, size, 4)
                result[kind] = 2 * size**3 / min(run() for _ in range(5)) * 1e3
            except (RuntimeError, OSError) as error:
                print(f"ceiling of {kind}: {error}", file=sys.stderr)
            torch.cuda.empty_cache()
        return result


def main():
    products = Products()
    print(json.dumps({"torch": torch.__version__, "cublaslt": products.cublaslt.version, "gpu": torch.cuda.get_device_name()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = products.ceilings() if "ceilings" in request else products.run(request)
        except Exception as error:  # whatever a library raises: the other contestants go on
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(answer), flush=True)


main()
