#!/bin/sh
# Four subjects in sequence (airports, medical codes, atomic numbers, Hungarian names), five draws of the facts.
#   python benchmarks/study.py data --out STUDY --settings subjects-16 --seeds 0 1 2 3 4 --most 60
#   sh STUDY/subjects.sh STUDY && python benchmarks/study.py keep STUDY/subjects subjects
# B and C, of what the model knew before, are asked after each subject. Rates are those that were chosen on edits, and plain fine-tuning's next.
# One method: sh STUDY/subjects.sh STUDY auto. Finished runs are not run again, so methods may run side by side.
set -e
cd "$1"
run() {
    name=$1
    shift
    if [ -n "$only" ] && [ "$only" != "$name" ]; then return; fi
    for seed in 0 1 2 3 4; do
        forgetless stream --stream world-facts --stream-arg items=16 --stream-arg "seed=$seed" --setting domain --seeds 1 --epochs 20 --resume \
            --probe "B=subjects-16-$seed/retain-heldout.jsonl" --probe "C=subjects-16-$seed/C.jsonl" --out "subjects/$name/$seed" "$@"
    done
}
only=$2
for folder in subjects-16-*; do
    cat "$folder/other.jsonl" "$folder/more.jsonl" "$folder/text.jsonl" > "$folder/C.$$" && mv "$folder/C.$$" "$folder/C.jsonl"
done
run none --method none --lr 2e-5
run none-high --method none --lr 5e-5
run replay --method replay --lr 3e-5
run auto --method auto --lr 1e-3
run cpl --method cpl --method-arg cpl.refresh=4 --method-arg cpl.retain_batches=1 --lr 3e-5
