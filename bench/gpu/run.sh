#!/usr/bin/env bash
# Tests, tunes and measures on a machine with a GPU: a driver, Python with torch for the peers, no Node.js, no network.
# FOLDER comes from pack.sh. What each part leaves goes to one file, RESULTS/gpu-results.tar, which is written anew after every
# part: a run that is cut off leaves the parts before.
# usage: run.sh FOLDER RESULTS [PART[=SECONDS]...]      none: all parts, in this order
#   instructions  each device instruction against the tables that the emulator is made by
#   many          tests of kernels for many tokens; where they fail, `table` is left out
#   table         times the plans of products: product_plans_sm90.inc, ready for native/cuda, which later parts use
#   matmul        products beside NVIDIA's libraries
#   training      training steps beside PyTorch
#   families      training steps of Parakeet CTC, Whisper and wav2vec 2.0
#   encoder       encoders beside PyTorch
#   parts         the operations of an encoder one by one
#   decode        features, CTC and transducers
#   tests         all tests of the GPU
#   memcheck      compute-sanitizer over small products
#   rings         compute-sanitizer's racecheck over small kernels that are right, or known to be wrong
#   racecheck     the same over small products
# Parts run one after another and have the GPU to themselves: tests that exhaust its memory fail beside a sanitizer. The JSON of
# suites belongs into bench/results, under the card's name.
set -u
usage="usage: run.sh FOLDER RESULTS [PART[=SECONDS]...]"
declare -A seconds=([instructions]=10 [many]=40 [table]=90 [matmul]=65 [training]=45 [families]=45 [encoder]=60 [parts]=15 [decode]=25 [tests]=100 [memcheck]=60 [rings]=30 [racecheck]=60)
order=(instructions many table matmul training families encoder parts decode tests memcheck rings racecheck)
folder=$(cd "${1:?$usage}" && pwd) || exit 2
mkdir -p "${2:?$usage}"
results=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- "${order[@]}"
parts=()
total=0
for part in "$@"; do
  name=${part%%=*}
  [ -n "${seconds[$name]:-}" ] || { echo "$name is no part; parts are ${order[*]}" >&2; exit 2; }
  [ "$name" = "$part" ] || seconds[$name]=${part#*=}
  [[ ${seconds[$name]} =~ ^[1-9][0-9]*$ ]] || { echo "$part: seconds must be a whole number from 1 on" >&2; exit 2; }
  parts+=("$name")
  total=$((total + ${seconds[$name]}))
done
begin=$SECONDS
say() { printf '[%3d s] %s\n' $((SECONDS - begin)) "$*"; }
exec 9> "${TMPDIR:-/tmp}/usm-lite-gpu.lock"
flock --nonblock 9 || { echo "another run.sh uses this GPU; wait until it has ended" >&2; exit 1; }
say "at most $total s and the start: $(for part in "${parts[@]}"; do printf '%s %s s  ' "$part" "${seconds[$part]}"; done)"

# ---- unpack, with Python: a bare machine may lack xz; into a folder named after what is in it ----
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
  mv --no-target-directory "$fresh" "$work"
fi
export PATH=$work/bin:$PATH
cd "$work/package" || exit 1
say "unpacked: node $(node --version)"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
keep() {
  tar --create --file "$results/gpu-results.tar.part" --directory "$out" --owner=0 --group=0 --sort=name . &&
    mv "$results/gpu-results.tar.part" "$results/gpu-results.tar"
}
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv > "$out/machine.csv" 2>&1 \
  || echo "nvidia-smi does not answer" >> "$out/machine.csv"
tail -1 "$out/machine.csv"
machine=$(sed -n 2p "$out/machine.csv" | cut -d, -f1)
machine=${machine:-unknown GPU}
node -e 'import("./dist/lib/index.js").then((m) => console.log(JSON.stringify(m.gpuInformation()))).catch((e) => { console.error(`${e.code}: ${e.message}`); process.exit(1); })' \
  > "$out/gpu.json" || { say "no GPU to compute on"; keep; exit 1; }
cat "$out/gpu.json"
# The library of cuBLASLt that torch brings, where the system has none.
export USMLITE_CUBLASLT=${USMLITE_CUBLASLT:-$(python3 -c 'import glob, os, torch; r = os.path.dirname(os.path.dirname(torch.__file__)); print((glob.glob(r + "/nvidia/**/libcublasLt.so.*", recursive=True) + [""])[0])' 2> /dev/null)}
[ -n "$USMLITE_CUBLASLT" ] || unset USMLITE_CUBLASLT

status=0
# Runs a command for at most the seconds of a part, or `limit`; its output goes to PART.log.
bounded() {  # part, command...
  local part=$1
  shift
  timeout --kill-after=5 "${limit:-${seconds[$part]}}" "$@" >> "$out/$part.log" 2>&1 9>&-
}
ava() {  # part, tests...
  local part=$1
  shift
  USMLITE_TEST_GPU=1 bounded "$part" node node_modules/ava/entrypoints/cli.mjs --serial --no-color "$@"
  local code=$?
  grep -E '^ *✘|passed|failed' "$out/$part.log" | head -40
  return $code
}
# A suite stops by itself a little before it would be ended.
bench() {  # part, suite
  USMLITE_BENCH_SECONDS=$((${seconds[$1]} > 30 ? ${seconds[$1]} - 15 : ${seconds[$1]} / 2)) \
    bounded "$1" node dist/bench/main.js --filter "$2" --machine "$machine" --json "$out/$2.json"
  local code=$?
  tail -1 "$out/$1.log" | cut -c1-150
  return $code
}
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2> /dev/null | tail -1)
checked() {  # part, tool, command...
  local part=$1 tool=$2
  shift 2
  if [ -z "$sanitizer" ]; then
    echo "compute-sanitizer is not installed" | tee -a "$out/$part.log"
    return 1
  fi
  bounded "$part" "$sanitizer" --tool "$tool" --target-processes all --print-limit 2000 --error-exitcode 99 "$@"
}

run_instructions() {
  [ -x build/Release/device_instructions ] || { echo "not in the package: pack.sh found no nvcc"; return 1; }
  bounded instructions build/Release/device_instructions
  local code=$?
  grep -v '^OK ' "$out/instructions.log" | head -20
  return $code
}
# Small shapes: `tests` takes the large ones.
run_many() { USMLITE_TEST_SMALL=1 ava many dist/test/104-*.test.js; }
run_table() {
  local table=$out/product_plans_sm90.inc
  grep -q '"computeCapability":9[,.]' "$out/gpu.json" || { echo "only Hopper has a table"; return 0; }
  [ "${many_code:-0}" = 0 ] || { echo "left out, since tests of kernels for many tokens failed"; return 1; }
  bounded table node dist/bench/gpu/tune_products.js "$table" $((${seconds[table]} > 30 ? ${seconds[table]} - 12 : ${seconds[table]} / 2))
  local code=$?
  tail -1 "$out/table.log"
  # What was written before it was ended counts: the table is written in steps.
  grep -q '^{"' "$table" 2> /dev/null && export USMLITE_PRODUCT_PLANS=$table
  return $code
}
run_matmul() { bench matmul matmul-cuda; }
run_training() { bench training training-cuda; }
run_families() { bench families training-families; }
run_encoder() { bench encoder encoder-cuda; }
run_parts() { bench parts encoder-parts-cuda; }
run_decode() { bench decode decode-cuda; }
# Without the table: tests expect what is built in.
run_tests() {
  local tests
  mapfile -t tests < <(grep -l '"\./gpu\.js"' dist/test/*.test.js | grep -v /100-)  # 100 is about the emulator
  (unset USMLITE_PRODUCT_PLANS; ava tests "${tests[@]}")
}
run_memcheck() {
  checked memcheck memcheck node dist/bench/gpu/small_products.js
  local code=$?
  grep -E 'products$|ERROR SUMMARY|Invalid' "$out/memcheck.log" | sort | uniq -c | head -10
  return $code
}
# What racecheck says of rings that are right (nothing, if it follows them) and of wrong ones (errors): without this its word on
# the products means little. Each for a few seconds.
run_rings() {
  [ -x build/Release/wrong_kernels ] || { echo "not in the package: pack.sh found no nvcc"; return 1; }
  local code=0 name limit=$(((${seconds[rings]} + 5) / 6))
  for name in "ring right" "ring right in one team" "ring right with stores" "ring without barrier" "ring overwritten by sums" "sums read without barrier"; do
    echo "== $name" >> "$out/rings.log"
    checked rings racecheck build/Release/wrong_kernels "$name" || [ $? = 99 ] || code=1
    printf '%-28s %s\n' "$name" "$(grep 'RACECHECK SUMMARY' "$out/rings.log" | tail -1)"
  done
  return $code
}
run_racecheck() {
  [ -z "$sanitizer" ] || "$sanitizer" --version >> "$out/racecheck.log" 2>&1
  checked racecheck racecheck node dist/bench/gpu/small_products.js few
  local code=$?
  grep -E 'products$|RACECHECK SUMMARY' "$out/racecheck.log"
  return $code
}

for part in "${parts[@]}"; do
  others=$(nvidia-smi --query-compute-apps=pid --format=csv,noheader 2> /dev/null | wc -l)
  [ "$others" = 0 ] || say "$others other processes use this GPU: figures and tests of memory cannot be relied on"
  from=$SECONDS
  "run_$part"
  code=$?
  [ "$part" != many ] || many_code=$code
  case $code in
    0) verdict=passed ;;
    124 | 137) verdict="OUT OF TIME" ;;
    *) verdict="FAILED ($code)" ;;
  esac
  [ $code = 0 ] || status=1
  say "$part: $verdict, $((SECONDS - from)) of ${seconds[$part]} s" | tee -a "$out/summary.txt"
  keep || { echo "$results/gpu-results.tar could not be written" >&2; status=1; }
done
say "done, status $status: $results/gpu-results.tar"
exit $status
