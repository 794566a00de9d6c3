#!/bin/sh
# Four subjects in sequence (airports, medical codes, atomic numbers, Hungarian names), an accuracy matrix for each method.
#   python benchmarks/study.py data --out STUDY --settings subjects-16 --seeds 0
#   sh STUDY/subjects.sh STUDY && python benchmarks/study.py keep STUDY/subjects subjects
# The facts are those of seed 0; the order in a subject varies with the seed. Finished seeds are not run again.
set -e
cd "$1"
files=$(ls -d subjects-16-0/[1-4]-*.jsonl | grep -v heldout | paste -sd, -)
run() {
    name=$1
    shift
    forgetless stream --stream "$files" --setting domain --seeds 3 --resume --out "subjects/$name" "$@"
}
run none --method none --lr 1e-4
run none-low --method none --lr 3e-5
run replay --method replay --lr 1e-4
run cpl --method cpl --method-arg cpl.refresh=2 --method-arg cpl.retain_batches=1 --lr 1e-4
run replay-cpl --method replay,cpl --method-arg cpl.refresh=4 --method-arg cpl.retain_batches=1 --lr 1e-4
run wise --method wise --method-arg wise.alpha=0.8 --lr 1e-4
