#!/usr/bin/env bash
# Tests and measures on a machine with a GPU: a driver, Python with torch for the peers, no Node.js, no network.
# FOLDER comes from pack.sh; logs and figures go to RESULTS.
# usage: run.sh FOLDER RESULTS quick|all|tests|sanitizer|bench [SECONDS]      quick: at most 60 seconds, all: 150
set -u
folder=$(cd "${1:?usage: run.sh FOLDER RESULTS quick|all|tests|sanitizer|bench}" && pwd)
mkdir -p "${2:?the folder for results is missing}"
results=$(cd "$2" && pwd)
mode=${3:-quick}
case $mode in
  quick) test_seconds=25 sanitizer_seconds=12 bench_seconds=18 ;;
  all) test_seconds=40 sanitizer_seconds=30 bench_seconds=75 ;;
  tests) test_seconds=${4:-60} sanitizer_seconds=0 bench_seconds=0 ;;
  sanitizer) test_seconds=0 sanitizer_seconds=60 bench_seconds=0 ;;
  bench) test_seconds=0 sanitizer_seconds=0 bench_seconds=${4:-60} ;;
  *) echo "the last word is quick, all, tests, sanitizer or bench, not $mode" >&2; exit 2 ;;
esac
begin=$SECONDS
say() { printf '[%3d s] %s\n' $((SECONDS - begin)) "$*"; }

# ---- unpack, with Python: a bare machine may lack xz; into a folder named after what is in it, so that runs may meet there ----
work=${TMPDIR:-/tmp}/usm-lite-gpu-$(cat "$folder/package.tar.xz" "$folder/node.xz" | sha256sum | cut -c1-16)
if [ ! -d "$work" ]; then
  fresh=$(mktemp -d "$work.XXXXXX")
  mkdir -p "$fresh/bin" "$fresh/package"
  python3 - "$folder" "$fresh" <<'SCRIPT' || { echo "$folder could not be unpacked; make it with pack.sh" >&2; exit 1; }
import lzma, os, shutil, sys, tarfile
folder, work = sys.argv[1:]
with lzma.open(f"{folder}/node.xz") as source, open(f"{work}/bin/node", "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
os.chmod(f"{work}/bin/node", 0o755)
with tarfile.open(f"{folder}/package.tar.xz") as archive:
    archive.extractall(f"{work}/package")
SCRIPT
  mv --no-target-directory "$fresh" "$work" 2>/dev/null || rm -rf "$fresh"  # another run was faster
fi
export PATH=$work/bin:$PATH
cd "$work/package" || exit 1
say "unpacked: node $(node --version)"

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv > "$results/machine.csv" 2>&1 \
  || echo "nvidia-smi does not answer" >> "$results/machine.csv"
tail -1 "$results/machine.csv"
node -e 'import("./dist/lib/index.js").then((m) => console.log(JSON.stringify(m.gpuInformation()))).catch((e) => { console.error(`${e.code}: ${e.message}`); process.exit(1); })' \
  || { say "no GPU to compute on"; exit 1; }

status=0
ava=node_modules/ava/entrypoints/cli.mjs
tests=$(ls dist/test/10[1-9]-*.test.js dist/test/1[45][0-9]-*.test.js)

# ---- the cases of the emulator, and larger ones ----
if [ $test_seconds -gt 0 ]; then
  # shellcheck disable=SC2086
  USMLITE_TEST_GPU=1 timeout --kill-after=5 $test_seconds node $ava --serial --no-color $tests > "$results/tests.log" 2>&1
  code=$?
  [ $code = 0 ] || status=1
  say "tests: $([ $code = 0 ] && echo passed || echo "FAILED ($code)"), $results/tests.log"
  grep -E '^ *✘|passed|failed' "$results/tests.log" | head -40
fi

# ---- the small ones with every access to memory checked ----
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -1)
if [ $sanitizer_seconds -gt 0 ] && [ -n "$sanitizer" ]; then
  timeout --kill-after=5 $sanitizer_seconds "$sanitizer" --tool memcheck --target-processes all \
    --error-exitcode 99 node dist/bench/gpu/small_products.js > "$results/sanitizer.log" 2>&1
  code=$?
  grep -E 'ERROR SUMMARY|Invalid|✘' "$results/sanitizer.log" | sort | uniq -c | head -10
  case $code in
    0) say "compute-sanitizer: no errors" ;;
    124 | 137) say "compute-sanitizer: out of time; see $results/sanitizer.log for how far it came" ;;
    *) say "compute-sanitizer: FAILED ($code)"; status=1 ;;
  esac
elif [ $sanitizer_seconds -gt 0 ]; then
  say "compute-sanitizer is not installed: left out"
fi

# ---- beside the libraries of NVIDIA ----
if [ $bench_seconds -gt 0 ]; then
  machine=$(sed -n 2p "$results/machine.csv" | cut -d, -f1)
  USMLITE_BENCH_SECONDS=$bench_seconds timeout --kill-after=5 $((bench_seconds + 20)) node dist/bench/main.js --filter matmul-cuda \
    --machine "${machine:-unknown GPU}" --json "$results/matmul-cuda.json" 2>&1 | tee "$results/matmul-cuda.log" | cut -c1-150
  code=${PIPESTATUS[0]}
  [ "$code" = 0 ] || { say "benchmark: FAILED ($code)"; status=1; }
fi
say "done, status $status"
exit $status
